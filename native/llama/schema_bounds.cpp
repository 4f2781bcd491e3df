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

constexpr int kMaxTextDepth = 200;    // nesting of brackets in the text
constexpr int kMaxWalkDepth = 1000;   // nested schemas, with those behind every $ref: each is a frame of the converter
constexpr size_t kMaxMembers = 4096;  // members of one object, whose keys are searched one by one
constexpr size_t kMaxNameLength = 1024;  // bytes, for each of which the converter's regular expressions call themselves
constexpr size_t kMaxSchemas = 1 << 15;  // schemas, including those that a list of types repeats
constexpr size_t kMaxOptional = 400;     // optional properties of one object: the converter's time is cubic in them
constexpr size_t kMaxPatterns = 1000;    // patterns, for each of which the converter copies all its rules
constexpr size_t kMaxPathBytes = 1 << 22;    // paths of all schemas together: each rule is named after its path
constexpr size_t kMaxCopiedBytes = 1 << 24;  // bytes that lists of types copy, a schema for each type

[[noreturn]] void refuse(const std::string& what) { throw Error("CLLM_INVALID_GRAMMAR", "Expected " + what); }

/// Visits the schemas that the converter visits. The converter builds the schema behind a $ref once, inside the first
/// schema that refers to it, so the depths of such schemas are added up. A schema that an allOf refers to is written
/// out in its place, each time.
class SchemaWalk {
 public:
  explicit SchemaWalk(common_json& root) : root_(root) {}

  void run() {
    walk_apart(root_, "#");
    while (!unwalked_targets_.empty()) {
      const auto [reference, target] = unwalked_targets_.back();
      unwalked_targets_.pop_back();
      walk_apart(*target, reference);
    }
  }

 private:
  /// Adds a level to the walk, and a part to the path, for as long as the Level lives.
  class Level {
   public:
    Level(SchemaWalk& walk, const std::string& part) : walk_(walk), length_(walk.path_.size()) {
      walk_.path_ += part;
      walk_.max_depth_ = std::max(walk_.max_depth_, ++walk_.depth_);
      if (walk_.depths_before_ + walk_.max_depth_ > kMaxWalkDepth) {
        refuse("a JSON schema of at most " + std::to_string(kMaxWalkDepth) + " levels, with what each $ref leads to");
      }
    }
    ~Level() {
      walk_.path_.resize(length_);
      walk_.depth_--;
    }
    Level(const Level&) = delete;

   private:
    SchemaWalk& walk_;
    const size_t length_;
  };

  void walk_apart(common_json& schema, const std::string& path) {
    path_.clear();
    max_depth_ = 0;
    walk(schema, path);
    depths_before_ += max_depth_;
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
    const auto [target_of, is_new] = targets_by_reference_.try_emplace(text, nullptr);
    if (!is_new) return target_of->second;
    common_json* target = &root_;
    for (size_t from = 2; target != nullptr && from <= text.size();) {
      const size_t to = std::min(text.find('/', from), text.size());
      target = member(*target, text.substr(from, to - from));
      from = to + 1;
    }
    target_of->second = target;
    if (target != nullptr) unwalked_targets_.emplace_back(text, target);
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
    if (name.size() <= kMaxNameLength) return;
    refuse("names and references of at most " + std::to_string(kMaxNameLength) + " bytes in a JSON schema");
  }

  /// Each property makes a rule, and each optional property makes a second one.
  void add_properties(size_t all, size_t optional) {
    if (optional > kMaxOptional) {
      refuse("at most " + std::to_string(kMaxOptional) + " optional properties for " + path_ +
             " of the JSON schema but " + "received " + std::to_string(optional));
    }
    rules_ += all + optional;
    check_size();
  }

  void check_size() const {
    if (rules_ > kMaxGrammarRules) {
      refuse("a JSON schema of at most " + std::to_string(kMaxGrammarRules) +
             " properties, optional ones counted twice");
    }
    if (schemas_ > kMaxSchemas) refuse("a JSON schema with at most " + std::to_string(kMaxSchemas) + " schemas in it");
    if (patterns_ > kMaxPatterns) refuse("a JSON schema with at most " + std::to_string(kMaxPatterns) + " patterns");
    if (path_bytes_ > kMaxPathBytes) refuse("a JSON schema with shorter names, or fewer levels");
    if (copied_bytes_ > kMaxCopiedBytes) refuse("a JSON schema with shorter lists of types");
  }

  common_json& root_;
  std::string path_;
  int depth_ = 0, max_depth_ = 0, depths_before_ = 0;
  size_t schemas_ = 0, rules_ = 0, patterns_ = 0, path_bytes_ = 0, copied_bytes_ = 0;
  std::map<std::string, common_json*> targets_by_reference_;
  std::vector<std::pair<std::string, common_json*>> unwalked_targets_;
};

}  // namespace

void check_schema_text(const std::string& text) {
  std::vector<size_t> members;  // for each open bracket: its members so far; an array has none
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
      if (members.size() > kMaxTextDepth) {
        refuse("a JSON schema of at most " + std::to_string(kMaxTextDepth) + " levels");
      }
    } else if ((text[i] == '}' || text[i] == ']') && !members.empty()) {
      members.pop_back();
    } else if (text[i] == ':' && !members.empty() && ++members.back() > kMaxMembers) {
      refuse("a JSON schema with at most " + std::to_string(kMaxMembers) + " members in an object");
    }
  }
}

void check_schema_bounds(common_json& schema) { SchemaWalk(schema).run(); }

}  // namespace cllm
