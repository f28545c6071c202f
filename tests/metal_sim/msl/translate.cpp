#include "tests/metal_sim/msl/translate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <string_view>

#include "tests/metal_sim/msl/scan.h"

namespace metal_sim {

namespace {

constexpr std::string_view kPlaces[] = {
    "thread_position_in_grid",        "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",   "threads_per_threadgroup",
    "threadgroups_per_grid",          "threads_per_grid",
    "thread_index_in_threadgroup",    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup", "simdgroups_per_threadgroup",
    "threads_per_simdgroup"};
constexpr std::string_view kBarriers[] = {"threadgroup_barrier", "simdgroup_barrier", "simd_",
                                          "simdgroup_"};
constexpr int kLastBufferIndex = 30;

struct Parameter {
  std::string declaration, name, attribute;
  size_t at = 0;
};

struct KernelText {
  std::string name;
  size_t begin = 0, body = 0, end = 0;  // of the function, its "{" and past its "}"
  std::vector<Parameter> parameters;
};

class Translator {
 public:
  Translator(const std::string& text, unsigned long language_version)
      : text_(blank_comments(text)), language_version_(language_version) {}

  Translation run() {
    check_words();
    check_address_spaces();
    for (size_t at = 0; (at = find_word(text_, "kernel", at)) != std::string::npos;) {
      at = read_kernel(at);
    }
    Translation result;
    rewrite(result);
    for (const KernelText& kernel : kernels_) {
      const std::string_view body =
          std::string_view(text_).substr(kernel.body, kernel.end - kernel.body);
      result.kernels.push_back({kernel.name, uses_barriers(body)});
      add_wrapper(kernel, result.code);
    }
    add_kernel_table(result.code);
    result.errors = errors_;
    result.uses_matrix = text_.find("simdgroup_matrix") != std::string::npos ||
                         text_.find("8x8") != std::string::npos;
    return result;
  }

 private:
  void error(size_t at, const std::string& what) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n';
    }
    errors_ += "program_source:" + std::to_string(line) + ":" + std::to_string(column) +
               ": error: " + what + "\n";
  }

  void check_words() {
    if (const size_t at = find_word(text_, "double", 0); at != std::string::npos) {
      error(at, "'double' is not supported in Metal");
    }
    const size_t at = find_word(text_, "bfloat", 0);
    if (at != std::string::npos && language_version_ < 0x30001) {
      error(at, "unknown type name 'bfloat' (it needs language version 3.1)");
    }
  }

  /// Every pointer and reference names its address space: clang would take one that does not.
  void check_address_spaces() {
    for (size_t at = 0; at < text_.size(); ++at) {
      if (!is_word(text_[at]) || (at > 0 && is_word(text_[at - 1]))) continue;
      const std::string_view word = word_at(text_, at);
      if (!is_scalar_type(word) && !is_vector_type(word)) continue;
      const size_t next = skip_space(text_, at + word.size());
      if (next >= text_.size() || (text_[next] != '*' && text_[next] != '&')) continue;
      std::string_view before = word_before(at);
      if (before == "const")
        before = word_before(static_cast<size_t>(before.data() - text_.data()));
      if (before != "device" && before != "constant" && before != "threadgroup" &&
          before != "thread" && before != "volatile") {
        error(at, "a pointer or reference to '" + std::string(word) + "' has no address space");
      }
    }
  }

  std::string_view word_before(size_t at) const {
    while (at > 0 && std::isspace(static_cast<unsigned char>(text_[at - 1]))) --at;
    const size_t end = at;
    while (at > 0 && is_word(text_[at - 1])) --at;
    return std::string_view(text_).substr(at, end - at);
  }

  static bool is_scalar_type(std::string_view word) {
    constexpr std::string_view kTypes[] = {"bool", "char",  "uchar", "short", "ushort", "int",
                                           "uint", "float", "half",  "long",  "ulong",  "bfloat"};
    return std::find(std::begin(kTypes), std::end(kTypes), word) != std::end(kTypes);
  }

  /// A helper function of the kernel may hold the barrier: the whole text counts.
  bool uses_barriers(std::string_view) const {
    for (const std::string_view word : kBarriers) {
      if (text_.find(word) != std::string::npos) return true;
    }
    return false;
  }

  size_t read_kernel(size_t at) {
    size_t next = skip_space(text_, at + 6);
    if (word_at(text_, next) != "void") return at + 6;
    next = skip_space(text_, next + 4);
    KernelText kernel;
    kernel.begin = at;
    kernel.name = std::string(word_at(text_, next));
    const size_t open = skip_space(text_, next + kernel.name.size());
    if (kernel.name.empty() || open >= text_.size() || text_[open] != '(') return at + 6;
    const size_t close = matching(text_, open);
    kernel.body = close == std::string::npos ? close : text_.find('{', close);
    if (kernel.body == std::string::npos) return at + 6;
    kernel.end = matching(text_, kernel.body);
    if (kernel.end == std::string::npos) {
      error(kernel.body, "expected '}'");
      return text_.size();
    }
    ++kernel.end;
    for (const auto& [begin, end] : split_arguments(text_, open + 1, close)) {
      kernel.parameters.push_back(read_parameter(begin, end));
    }
    check_parameters(kernel);
    const size_t end = kernel.end;
    kernels_.push_back(std::move(kernel));
    return end;
  }

  Parameter read_parameter(size_t begin, size_t end) const {
    Parameter parameter;
    parameter.at = skip_space(text_, begin);
    const std::string whole = text_.substr(begin, end - begin);
    const size_t open = whole.find("[[");
    if (open != std::string::npos) {
      const size_t close = whole.find("]]", open);
      parameter.attribute = trimmed(whole.substr(open + 2, close - open - 2));
    }
    parameter.declaration = trimmed(whole.substr(0, open));
    size_t name = parameter.declaration.size();
    while (name > 0 && is_word(parameter.declaration[name - 1])) --name;
    parameter.name = parameter.declaration.substr(name);
    return parameter;
  }

  void check_parameters(const KernelText& kernel) {
    std::map<std::string, std::string> seen;
    for (const Parameter& p : kernel.parameters) {
      const auto [kind, index] = kind_of(p);
      if (kind == kPlace) continue;
      if (kind == kNone) {
        error(p.at, "parameter '" + p.name + "' of kernel '" + kernel.name +
                        "' has no or an unknown attribute '" + p.attribute + "'");
        continue;
      }
      const auto [other, is_new] = seen.emplace(p.attribute, p.name);
      if (!is_new) {
        error(p.at,
              "'" + p.attribute + "' is used by '" + other->second + "' and '" + p.name + "'");
      }
      if (index > kLastBufferIndex) error(p.at, "'" + p.attribute + "': the index is beyond 30");
      const bool is_device = find_word(p.declaration, "device", 0) != std::string::npos;
      const bool is_constant = find_word(p.declaration, "constant", 0) != std::string::npos;
      const bool is_group = find_word(p.declaration, "threadgroup", 0) != std::string::npos;
      if (kind == kBuffer && !is_device && !is_constant) {
        error(p.at,
              "buffer parameter '" + p.name + "' must be in device or constant address space");
      }
      if (kind == kGroup && !is_group) {
        error(p.at, "parameter '" + p.name + "' must be in threadgroup address space");
      }
      if (p.declaration.find_first_of("*&") == std::string::npos) {
        error(p.at, "buffer parameter '" + p.name + "' must be a pointer or a reference");
      }
    }
  }

  enum Kind { kBuffer, kGroup, kPlace, kNone };

  static std::pair<Kind, int> kind_of(const Parameter& parameter) {
    for (const std::string_view place : kPlaces) {
      if (parameter.attribute == place) return {kPlace, 0};
    }
    const size_t open = parameter.attribute.find('(');
    if (open == std::string::npos) return {kNone, 0};
    const std::string word = trimmed(parameter.attribute.substr(0, open));
    const int index = std::atoi(parameter.attribute.c_str() + open + 1);
    if (word == "buffer") return {kBuffer, index};
    if (word == "threadgroup") return {kGroup, index};
    return {kNone, 0};
  }

  /// The text with its rewrites.
  void rewrite(Translation& result) {
    std::string& out = result.code;
    out = "#line 1 \"program_source\"\n";
    size_t kernel = 0;
    uint32_t arrays = 0;
    for (size_t at = 0; at < text_.size();) {
      while (kernel < kernels_.size() && at >= kernels_[kernel].end) {
        ++kernel;
        arrays = 0;
      }
      if (text_.compare(at, 2, "[[") == 0) {
        const size_t close = text_.find("]]", at);
        if (close == std::string::npos) break;
        at = close + 2;
        continue;
      }
      if (!is_word(text_[at])) {
        out += text_[at++];
        continue;
      }
      const std::string word(word_at(text_, at));
      const size_t after = at + word.size();
      const bool in_kernel = kernel < kernels_.size() && at >= kernels_[kernel].body;
      if (word == "threadgroup" && starts_statement(text_, at)) {
        at = rewrite_array(at, in_kernel ? &kernels_[kernel] : nullptr, arrays, out);
        continue;
      }
      const size_t next = skip_space(text_, after);
      if (is_vector_type(word) && next < text_.size() && text_[next] == '(') {
        out += "metal_sim_make<" + word + ">";
      } else {
        out += word;
      }
      at = after;
    }
    out += "\n#line 1 \"wrappers\"\n";
  }

  /// threadgroup float A[16][17] __attribute__((..)); -> METAL_SIM_ARRAY. Returns where to go on.
  size_t rewrite_array(size_t at, const KernelText* kernel, uint32_t& arrays, std::string& out) {
    const size_t type = skip_space(text_, at + 11);
    const size_t end = text_.find(';', at);
    std::string declaration = text_.substr(type, end - type);
    if (end == std::string::npos || declaration.find_first_of("*&=(") == 0 ||
        declaration.find('*') != std::string::npos || declaration.find('=') != std::string::npos) {
      out += "threadgroup";
      return at + 11;
    }
    if (!kernel) {
      error(at, "a threadgroup variable must be declared in a kernel");
      return end;
    }
    if (const size_t attribute = declaration.find("__attribute__");
        attribute != std::string::npos) {
      declaration.resize(attribute);
    }
    const size_t bracket = std::min(declaration.find('['), declaration.size());
    size_t name_end = bracket;
    while (name_end > 0 && !is_word(declaration[name_end - 1])) --name_end;
    size_t name = name_end;
    while (name > 0 && is_word(declaration[name - 1])) --name;
    const std::string dimensions = trimmed(declaration.substr(bracket));
    const std::string of = trimmed(declaration.substr(0, name));
    out += "METAL_SIM_ARRAY(" + kernel->name + ", " + std::to_string(arrays++) + ", " + of + ", " +
           declaration.substr(name, name_end - name) + ", " + dimensions + ")";
    return end;
  }

  static void add_wrapper(const KernelText& kernel, std::string& out) {
    std::string call, list;
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
      const Parameter& p = kernel.parameters[i];
      const auto [kind, index] = kind_of(p);
      const std::string type =
          "metal_sim_parameter<" + std::to_string(i) + ", decltype(&" + kernel.name + ")>::type";
      const std::string target = "metal_sim_target<" + type + ">";
      if (i) call += ", ";
      list += "{\"" + p.name + "\", " + std::to_string(static_cast<int>(kind)) + ", " +
              std::to_string(index) + ", ";
      if (kind == kPlace) {
        const bool is_array = p.attribute.find("_in_simdgroup") == std::string::npos &&
                              p.attribute.find("index") == std::string::npos &&
                              p.attribute.find("simdgroup") == std::string::npos;
        call += "metal_sim_pass_place<" + type + ">(" + (is_array ? "" : "&") + "place->" +
                p.attribute + ")";
        list += "0, 0, 0, 0}, ";
      } else {
        call += "metal_sim_pass<" + type + ">(values[" + std::to_string(i) + "])";
        list += "sizeof(" + target + "::type), alignof(" + target + "::type), " + target +
                "::is_reference, " + target + "::is_const}, ";
      }
    }
    const std::string section = "metal_sim_" + kernel.name;
    out += "extern \"C\" METAL_SIM_UNCHECKED void metal_sim_run_" + kernel.name +
           "(void** values, const metal_sim_place* place) { (void)values; (void)place; " +
           kernel.name + "(" + call + "); }\n";
    out += "extern \"C\" { extern const metal_sim_argument metal_sim_arguments_" + kernel.name +
           "[]; const metal_sim_argument metal_sim_arguments_" + kernel.name + "[] = {" + list +
           "{0, 0, 0, 0, 0, 0, 0}};\n"
           "extern const uint __start_" +
           section +
           "[] __attribute__((weak, visibility(\"hidden\")));"
           "\nextern const uint __stop_" +
           section +
           "[] __attribute__((weak, visibility(\"hidden\")));"
           "\nextern const uint* const metal_sim_sizes_" +
           kernel.name + "[]; const uint* const metal_sim_sizes_" + kernel.name + "[] = {__start_" +
           section + ", __stop_" + section + "}; }\n";
  }

  void add_kernel_table(std::string& out) const {
    out +=
        "extern \"C\" { extern const char* const metal_sim_kernels[]; "
        "const char* const metal_sim_kernels[] = {";
    for (const KernelText& kernel : kernels_) out += "\"" + kernel.name + "\", ";
    out += "0}; }\n";
  }

  std::string text_, errors_;
  unsigned long language_version_;
  std::vector<KernelText> kernels_;
};

}  // namespace

Translation translate_msl(const std::string& text, unsigned long language_version) {
  return Translator(text, language_version).run();
}

}  // namespace metal_sim
