#include "llama/schema_bounds.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <vector>

#include "base/error.h"
#include "json.h"
#include "llama/grammar_bounds.h"
#include "llama/pattern_bounds.h"
#include "llama/schema_numbers.h"

namespace cllm {

namespace {

constexpr int kDeepestText = 200;      // levels of the text
constexpr int kDeepestWalk = 1000;     // schemas within schemas, those behind every $ref added: frames of the converter
constexpr size_t kMostMembers = 4096;  // of one object: its keys are found by looking at each
constexpr size_t kLongestName = 1024;  // bytes: the converter's regular expressions call themselves for each
constexpr size_t kMostSchemas = 1 << 15;      // with those that a list of types repeats
constexpr size_t kMostOptional = 400;         // properties of one object: the converter's time is cubic in them
constexpr size_t kMostPatterns = 1000;        // the converter copies all its rules for each
constexpr size_t kMostPathBytes = 1 << 22;    // a rule has the name of its path
constexpr size_t kMostCopiedBytes = 1 << 24;  // a list of types copies the schema for each

[[noreturn]] void refuse(const std::string& what) { throw Error("CLLM_INVALID_GRAMMAR", "Expected " + what); }

/// Goes where the converter goes. The converter builds the schema behind a $ref once, within the first one that it
/// meets: so depths of these schemas are added up. What an allOf refers to is written out in its place, each time.
class Walk {
 public:
  explicit Walk(common_json& root) : root_(root) {}

  void run() {
    walk_apart(root_, "#");
    while (!targets_.empty()) {
      const auto [reference, target] = targets_.back();
      targets_.pop_back();
      walk_apart(*target, reference);
    }
  }

 private:
  /// Adds a level to the walk, and a part to the path, as long as it lives.
  class Level {
   public:
    Level(Walk& walk, const std::string& part) : walk_(walk), length_(walk.path_.size()) {
      walk_.path_ += part;
      walk_.deepest_ = std::max(walk_.deepest_, ++walk_.depth_);
      if (walk_.depths_before_ + walk_.deepest_ > kDeepestWalk) {
        refuse("a JSON schema of at most " + std::to_string(kDeepestWalk) + " levels, with what each $ref leads to");
      }
    }
    ~Level() {
      walk_.path_.resize(length_);
      walk_.depth_--;
    }
    Level(const Level&) = delete;

   private:
    Walk& walk_;
    const size_t length_;
  };

  void walk_apart(common_json& schema, const std::string& path) {
    path_.clear();
    deepest_ = 0;
    walk(schema, path);
    depths_before_ += deepest_;
  }

  void walk(common_json& schema, const std::string& part) {
    const Level level(*this, part);
    schemas_++;
    path_bytes_ += path_.size();
    check_size();
    if (!schema.is_object()) return;  // the converter refuses it
    check_schema_numbers(schema, path_);
    if (schema.contains("$ref")) {
      find(schema.at("$ref"));
    } else if (schema.contains("oneOf") || schema.contains("anyOf")) {
      const std::string name = schema.contains("oneOf") ? "oneOf" : "anyOf";
      walk_all(schema.at(name), "/" + name + "/");
    } else if (schema.contains("type")) {
      walk_typed(schema, schema.at("type"));
    } else {
      walk_as(schema, "");
    }
  }

  void walk_typed(common_json& schema, const common_json& type) {
    if (!type.is_array()) {
      walk_as(schema, type.is_string() ? type.get<std::string>() : "");
      return;
    }
    for (size_t i = 0; i < type.size(); i++) {
      const Level level(*this, "/type/" + std::to_string(i));
      schemas_++;
      copied_bytes_ += bytes_of(schema);
      check_size();
      walk_typed(schema, type.at(i));
    }
  }

  void walk_as(common_json& schema, const std::string& type) {
    if (schema.contains("const") || schema.contains("enum")) return;
    const bool has_properties = schema.contains("properties") ||
                                (schema.contains("additionalProperties") && schema.at("additionalProperties") != true);
    const bool has_all_of = schema.contains("allOf");
    if (has_properties && (type.empty() || type == "object")) {
      walk_properties(schema);
    } else if (has_all_of && (type.empty() || type == "object" || type == "string")) {
      walk_all_of(schema.at("allOf"));
    } else if (type == "array" || (type.empty() && (schema.contains("items") || schema.contains("prefixItems")))) {
      walk_items(schema);
    } else if ((type.empty() || type == "string") && schema.contains("pattern") && schema.at("pattern").is_string()) {
      const std::string reason = why_pattern_refused(schema.at("pattern").get<std::string>());
      if (!reason.empty()) refuse_value(reason, path_ + "/pattern", schema.at("pattern"));
      patterns_++;
    }
  }

  void walk_properties(common_json& schema) {
    if (schema.contains("additionalProperties") && schema.at("additionalProperties").is_object()) {
      walk(schema.at("additionalProperties"), "/additionalProperties");
    }
    if (!schema.contains("properties") || !schema.at("properties").is_object()) return;
    common_json& properties = schema.at("properties");
    std::vector<std::string> required;
    if (schema.contains("required") && schema.at("required").is_array()) {
      for (const common_json& name : schema.at("required")) {
        if (name.is_string()) required.push_back(name.get<std::string>());
      }
    }
    std::sort(required.begin(), required.end());
    size_t optional = 0;
    for (const auto& [name, property] : properties.items()) {
      check_length(name);
      if (!std::binary_search(required.begin(), required.end(), name)) optional++;
      walk(property, "/properties/" + escaped(name));
    }
    add_properties(properties.size(), optional);
  }

  void walk_all_of(common_json& components) {
    size_t properties = 0;
    for (size_t i = 0; i < components.size() && components.is_array(); i++) {
      common_json& component = components.at(i);
      const Level level(*this, "/allOf/" + std::to_string(i));
      walk(component, "");
      write_out(component, properties);
      if (!component.is_object() || component.contains("$ref")) continue;
      const std::string name = component.contains("oneOf") ? "oneOf" : "anyOf";
      if (!component.contains(name) || !component.at(name).is_array()) continue;
      for (common_json& alternative : component.at(name)) write_out(alternative, properties);
    }
    add_properties(0, properties);
  }

  /// Counts the properties that the converter takes from a component of an allOf, and walks those behind references.
  void write_out(common_json& component, size_t& properties) {
    if (!component.is_object()) return;
    if (!component.contains("$ref")) {
      if (component.contains("properties")) properties += component.at("properties").size();
      return;
    }
    const Level level(*this, "");
    common_json* target = find(component.at("$ref"));
    if (target == nullptr) return;
    walk(*target, "");
    write_out(*target, properties);
  }

  void walk_items(common_json& schema) {
    const std::string name = schema.contains("items") ? "items" : "prefixItems";
    if (!schema.contains(name)) return;
    if (schema.at(name).is_array()) {
      walk_all(schema.at(name), "/" + name + "/");
    } else {
      walk(schema.at(name), "/" + name);
    }
  }

  void walk_all(common_json& schemas, const std::string& part) {
    if (!schemas.is_array()) return;
    for (size_t i = 0; i < schemas.size(); i++) walk(schemas.at(i), part + std::to_string(i));
  }

  /// Finds what a $ref leads to as the converter does, or null. The target is walked later, once.
  common_json* find(const common_json& reference) {
    if (!reference.is_string()) return nullptr;
    const auto text = reference.get<std::string>();
    if (text.compare(0, 2, "#/") != 0) return nullptr;
    check_length(text);
    const auto [known, is_new] = known_.try_emplace(text, nullptr);
    if (!is_new) return known->second;
    common_json* target = &root_;
    for (size_t from = 2; target != nullptr && from <= text.size();) {
      const size_t to = std::min(text.find('/', from), text.size());
      target = member(*target, text.substr(from, to - from));
      from = to + 1;
    }
    known->second = target;
    if (target != nullptr) targets_.emplace_back(text, target);
    return target;
  }

  static common_json* member(common_json& value, const std::string& name) {
    if (value.is_object()) return value.contains(name) ? &value.at(name) : nullptr;
    if (!value.is_array()) return nullptr;
    try {
      const size_t index = std::stoull(name);
      return index < value.size() ? &value.at(index) : nullptr;
    } catch (const std::logic_error&) {
      return nullptr;
    }
  }

  static size_t bytes_of(const common_json& value) {
    size_t bytes = value.is_string() ? value.get<std::string>().size() + 1 : 1;
    if (value.is_array()) {
      for (const common_json& element : value) bytes += bytes_of(element);
    } else if (value.is_object()) {
      for (const auto& [name, member] : value.items()) bytes += name.size() + bytes_of(member);
    }
    return bytes;
  }

  static std::string escaped(const std::string& name) {
    std::string text;
    for (const char c : name) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return text;
  }

  static void check_length(const std::string& name) {
    if (name.size() <= kLongestName) return;
    refuse("names and references of at most " + std::to_string(kLongestName) + " bytes in a JSON schema");
  }

  /// Each property makes a rule, and each optional one another.
  void add_properties(size_t all, size_t optional) {
    if (optional > kMostOptional) {
      refuse("at most " + std::to_string(kMostOptional) + " optional properties for " + path_ +
             " of the JSON schema but " + "received " + std::to_string(optional));
    }
    rules_ += all + optional;
    check_size();
  }

  void check_size() const {
    if (rules_ > kMostGrammarRules) {
      refuse("a JSON schema of at most " + std::to_string(kMostGrammarRules) +
             " properties, optional ones counted twice");
    }
    if (schemas_ > kMostSchemas)
      refuse("a JSON schema with at most " + std::to_string(kMostSchemas) + " schemas in it");
    if (patterns_ > kMostPatterns) refuse("a JSON schema with at most " + std::to_string(kMostPatterns) + " patterns");
    if (path_bytes_ > kMostPathBytes) refuse("a JSON schema with shorter names, or fewer levels");
    if (copied_bytes_ > kMostCopiedBytes) refuse("a JSON schema with shorter lists of types");
  }

  common_json& root_;
  std::string path_;
  int depth_ = 0, deepest_ = 0, depths_before_ = 0;
  size_t schemas_ = 0, rules_ = 0, patterns_ = 0, path_bytes_ = 0, copied_bytes_ = 0;
  std::map<std::string, common_json*> known_;
  std::vector<std::pair<std::string, common_json*>> targets_;
};

}  // namespace

void check_schema_text(const std::string& text) {
  std::vector<size_t> members;  // so far, of each open bracket; an array has none
  bool in_string = false;
  for (size_t i = 0; i < text.size(); i++) {
    if (in_string && text[i] == '\\') {
      i++;
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (in_string) {
      continue;
    } else if (text[i] == '{' || text[i] == '[') {
      members.push_back(0);
      if (members.size() > kDeepestText) {
        refuse("a JSON schema of at most " + std::to_string(kDeepestText) + " levels");
      }
    } else if ((text[i] == '}' || text[i] == ']') && !members.empty()) {
      members.pop_back();
    } else if (text[i] == ':' && !members.empty() && ++members.back() > kMostMembers) {
      refuse("a JSON schema with at most " + std::to_string(kMostMembers) + " members in an object");
    }
  }
}

void check_schema_bounds(common_json& schema) { Walk(schema).run(); }

}  // namespace cllm
