#include "llama/schema_numbers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "json-schema.h"
#include "llama/grammar_bounds.h"

namespace cllm {

namespace {

constexpr uint64_t kMaxItems = 1990;  // below kMaxRepetitions, because the parser adds repetitions of outer brackets
constexpr size_t kMaxQuoteLength = 60, kMaxPathLength = 200;
constexpr int64_t kMaxBound = INT64_MAX - 1;  // the converter takes INT64_MAX for no bound, and negates bounds

std::string type_of(const common_json& value) {
  if (value.is_string()) return "string";
  if (value.is_number()) return "number";
  if (value.is_boolean()) return "boolean";
  if (value.is_array()) return "array";
  return value.is_null() ? "null" : "object";
}

bool names_integer(const common_json& type) {
  if (!type.is_array()) return type.is_string() && type == "integer";
  return std::any_of(type.begin(), type.end(), [](const common_json& element) { return names_integer(element); });
}

/// Rounds a bound of integers to a whole number, or to the nearest one that 64 bits hold.
int64_t whole_number(const common_json& value, bool round_up) {
  const double number = value.get<double>();
  if (value.is_number_integer()) {
    const auto whole = value.get<long long>();
    return number > 0 && whole < 0 ? INT64_MAX : whole;  // an unsigned number wrapped
  }
  const double whole = round_up ? std::ceil(number) : std::floor(number);
  if (whole >= 0x1p63) return INT64_MAX;
  return whole <= -0x1p63 ? INT64_MIN : static_cast<int64_t>(whole);
}

/// The numeric bounds of one schema.
class Bounds {
 public:
  Bounds(common_json& schema, const std::string& path) : schema_(schema), path_(path) {}

  void check() {
    check_counts("minLength", "maxLength", kMaxRepetitions);
    check_counts("minItems", "maxItems", kMaxItems);
    check_counts("minProperties", "maxProperties", kMaxNumber);
    check_counts("minContains", "maxContains", kMaxNumber);
    for (const char* name : {"minimum", "maximum", "multipleOf"}) {
      if (has(name) && !at(name).is_number()) refuse_value("a number", path_ + "/" + name, at(name));
    }
    // In draft 4 of JSON Schema these two are booleans.
    for (const char* name : {"exclusiveMinimum", "exclusiveMaximum"}) {
      if (has(name) && !at(name).is_number() && !at(name).is_boolean())
        refuse_value("a number", path_ + "/" + name, at(name));
    }
    if (has("type") && names_integer(at("type"))) {
      check_integers();
    } else if (has("minimum") && has("maximum") && at("minimum").get<double>() > at("maximum").get<double>()) {
      refuse_value("a number of at least minimum, " + at("minimum").dump() + ",", path_ + "/maximum", at("maximum"));
    }
  }

 private:
  bool has(const std::string& name) const { return schema_.contains(name); }
  bool has_number(const std::string& name) const { return has(name) && at(name).is_number(); }
  common_json& at(const std::string& name) const { return schema_.at(name); }

  void check_counts(const std::string& min_name, const std::string& max_name, uint64_t max_count) const {
    for (const std::string& name : {min_name, max_name}) {
      if (!has(name)) continue;
      const bool counts = at(name).is_number_integer() && at(name).get<double>() >= 0;
      if (counts && at(name).get<unsigned long long>() <= max_count) continue;
      const std::string range = max_count == kMaxNumber ? "from 0" : "from 0 to " + std::to_string(max_count);
      refuse_value("an integer " + range, path_ + "/" + name, at(name));
    }
    if (!has(min_name) || !has(max_name)) return;
    if (at(min_name).get<unsigned long long>() <= at(max_name).get<unsigned long long>()) return;
    refuse_value("an integer of at least " + min_name + ", " + at(min_name).dump() + ",", path_ + "/" + max_name,
                 at(max_name));
  }

  /// Replaces values in their places and adds no key, so pointers into the schema stay valid. A second call changes
  /// nothing.
  void check_integers() {
    int64_t lowest = INT64_MIN, highest = INT64_MAX;
    if (has("minimum")) lowest = whole_number(at("minimum"), true);
    if (has("maximum")) highest = whole_number(at("maximum"), false);
    if (has_number("exclusiveMinimum")) {
      const int64_t below = whole_number(at("exclusiveMinimum"), false);
      lowest = std::max(lowest, below == INT64_MAX ? below : below + 1);
    }
    if (has_number("exclusiveMaximum")) {
      const int64_t above = whole_number(at("exclusiveMaximum"), true);
      highest = std::min(highest, above == INT64_MIN ? above : above - 1);
    }
    const std::string min_name = has("minimum") ? "minimum" : "exclusiveMinimum";
    const std::string max_name = has("maximum") ? "maximum" : "exclusiveMaximum";
    if (lowest > kMaxBound) {
      refuse_value("a number of at most " + std::to_string(kMaxBound), path_ + "/" + min_name, at(min_name));
    }
    if (highest < -kMaxBound) {
      refuse_value("a number of at least -" + std::to_string(kMaxBound), path_ + "/" + max_name, at(max_name));
    }
    if (lowest > highest) {
      refuse_value("a number that allows an integer from " + std::to_string(lowest) + ",", path_ + "/" + max_name,
                   at(max_name));
    }
    lowest = std::max(lowest, -kMaxBound);
    highest = std::min(highest, kMaxBound);
    if (has_number(min_name)) at(min_name) = min_name == "minimum" ? lowest : lowest - 1;
    if (has_number(max_name)) at(max_name) = max_name == "maximum" ? highest : highest + 1;
  }

  common_json& schema_;
  const std::string& path_;
};

}  // namespace

void refuse_value(const std::string& what, std::string path, const common_json& value) {
  if (path.size() > kMaxPathLength) path = "..." + path.substr(path.size() - kMaxPathLength);
  throw Error("CLLM_INVALID_GRAMMAR", "Expected " + what + " for " + path + " of the JSON schema but received " +
                                          value.dump_safe().substr(0, kMaxQuoteLength) + " of type " + type_of(value));
}

void check_schema_numbers(common_json& schema, const std::string& path) { Bounds(schema, path).check(); }

void complete_integer_bounds(common_chat_schema_document& document) {
  std::vector<common_chat_schema*> nodes{document.root.get()};
  for (auto& [reference, node] : document.refs) nodes.push_back(node.get());
  const auto add = [&nodes](const std::vector<common_chat_schema_ptr>& children) {
    for (const auto& child : children) nodes.push_back(child.get());
  };
  while (!nodes.empty()) {
    common_chat_schema* node = nodes.back();
    nodes.pop_back();
    if (node == nullptr) continue;
    switch (node->kind()) {
      case common_chat_schema::KIND_ANY_OF: add(static_cast<common_chat_schema_any_of*>(node)->children); break;
      case common_chat_schema::KIND_ALL_OF: add(static_cast<common_chat_schema_all_of*>(node)->children); break;
      case common_chat_schema::KIND_TUPLE: add(static_cast<common_chat_schema_tuple*>(node)->items); break;
      case common_chat_schema::KIND_ARRAY:
        nodes.push_back(static_cast<common_chat_schema_array*>(node)->items.get());
        break;
      case common_chat_schema::KIND_OBJECT: {
        auto* object = static_cast<common_chat_schema_object*>(node);
        for (auto& property : object->properties) nodes.push_back(property.schema.get());
        nodes.push_back(object->additional_properties.get());
        break;
      }
      case common_chat_schema::KIND_INTEGER: {
        auto* integer = static_cast<common_chat_schema_integer*>(node);
        if (integer->maximum == INT64_MAX && integer->minimum >= 10) integer->maximum = kMaxBound;
        if (integer->minimum == INT64_MIN && integer->maximum < 0) integer->minimum = -kMaxBound;
        break;
      }
      default: break;
    }
  }
}

}  // namespace cllm
