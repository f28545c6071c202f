// KernelSources: a set of parsed texts and what can be asked of it.
#include <algorithm>

#include "core/base/hash.h"
#include "core/kernel/dialect.h"
#include "core/kernel/embedded.h"
#include "core/kernel/parser.h"
#include "core/kernel/printer.h"
#include "core/kernel/variant.h"

namespace dlk {

namespace {

using dialect::Function;
using dialect::KernelDecl;
using dialect::Unit;

const Function* find_function(const Unit& unit, std::string_view name) {
  for (const Function& function : unit.functions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

}  // namespace

std::string KernelRequest::key() const {
  std::string text = name;
  if (!source.empty()) {
    text += "@" + std::to_string(hash_text(source)) + "." +
            std::to_string(hash_text(source, 1099511628211u)) + "." + std::to_string(source.size());
  }
  for (const auto& [constant, value] : constants)
    text += "|" + constant + "=" + std::to_string(value);
  for (const auto& [type, dtype] : types) text += "|" + type + ":" + std::string(dtype_name(dtype));
  if (!epilogue.expression.empty()) {
    text += "|epilogue=" + epilogue.expression;
    for (const EpilogueOperand& operand : epilogue.operands) {
      text += "," + std::to_string(static_cast<int>(operand.kind)) + ":" +
              std::string(dtype_name(operand.dtype));
    }
  }
  if (lowering != "plain") text += "|lowering=" + lowering;
  return text;
}

struct KernelSources::Impl : dialect::FunctionIndex {
  std::vector<std::unique_ptr<Unit>> units;
  std::map<std::string_view, const KernelDecl*> kernels;
  std::map<std::string_view, const Unit*> libraries;
  const Impl* fallback = nullptr;  // the embedded library, for sources that come with a request

  const Unit* library(std::string_view name) const {
    const auto found = libraries.find(name);
    if (found != libraries.end()) return found->second;
    return fallback != nullptr ? fallback->library(name) : nullptr;
  }

  const Function* find(const Unit& from, std::string_view name) const override {
    if (const Function* own = find_function(from, name)) return own;
    for (const std::string_view used : from.uses) {
      const Unit* unit = library(used);
      if (unit == nullptr) {
        throw Error(ErrorCode::kCompileFailed,
                    from.source.name + ": there is no library '" + std::string(used) + "' to use");
      }
      if (const Function* function = find_function(*unit, name)) return function;
    }
    return find_in_math(name);
  }

  const Function* find_in_math(std::string_view name) const override {
    const Unit* math = library("math");
    return math == nullptr ? nullptr : find_function(*math, name);
  }

  const Function* find_anywhere(std::string_view name) const override {
    for (const auto& [library_name, unit] : libraries) {
      if (const Function* function = find_function(*unit, name)) return function;
    }
    return fallback != nullptr ? fallback->find_anywhere(name) : nullptr;
  }

  void add(std::unique_ptr<Unit> unit) {
    for (const KernelDecl& kernel : unit->kernels) {
      if (kernels.contains(kernel.name)) {
        dialect::fail_at(unit->source, kernel.at,
                         "there is already a kernel '" + std::string(kernel.name) + "'");
      }
    }
    if (!unit->library.empty() && libraries.contains(unit->library)) {
      dialect::fail_at(unit->source, 0,
                       "there is already a library '" + std::string(unit->library) + "'");
    }
    for (const KernelDecl& kernel : unit->kernels) kernels[kernel.name] = &kernel;
    if (!unit->library.empty()) libraries[unit->library] = unit.get();
    units.push_back(std::move(unit));
  }

  const KernelDecl& kernel(const std::string& name) const {
    const auto found = kernels.find(name);
    if (found != kernels.end()) return *found->second;
    throw_invalid("there is no kernel '" + name + "'");
  }

  /// Calls `use` with the kernel of a request, from here or from the request's own source.
  template <typename Use>
  auto with_kernel(const KernelRequest& request, const Use& use) const {
    if (request.source.empty()) return use(kernel(request.name), *this);
    Impl own;
    own.fallback = this;
    own.add(dialect::parse_unit("source of " + request.name, request.source));
    return use(own.kernel(request.name), own);
  }
};

KernelSources::KernelSources() : impl_(std::make_unique<Impl>()) {}
KernelSources::~KernelSources() = default;
KernelSources::KernelSources(KernelSources&&) noexcept = default;
KernelSources& KernelSources::operator=(KernelSources&&) noexcept = default;

const KernelSources& KernelSources::embedded() {
  static const KernelSources sources = [] {
    KernelSources result;
    for (const EmbeddedKernelFile& file : embedded_kernel_files()) {
      result.add(file.file_name, file.text);
    }
    return result;
  }();
  return sources;
}

void KernelSources::add(std::string_view file_name, std::string_view text) {
  impl_->add(dialect::parse_unit(file_name, text));
}

std::vector<std::string> KernelSources::kernel_names() const {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : impl_->kernels) names.emplace_back(name);
  return names;
}

bool KernelSources::contains(std::string_view kernel) const {
  return impl_->kernels.contains(kernel);
}

uint64_t KernelSources::hash() const {
  uint64_t hash = 0;
  for (const auto& unit : impl_->units) {
    hash = hash_text(unit->source.text, hash_text(unit->source.name, hash + 1));
  }
  return hash;
}

KernelInterface KernelSources::interface_of(const KernelRequest& request) const {
  return impl_->with_kernel(request, [&](const KernelDecl& kernel, const Impl&) {
    return dialect::make_variant(kernel, request).interface;
  });
}

bool KernelSources::has_tiles(const KernelRequest& request) const {
  return impl_->with_kernel(request, [](const KernelDecl& kernel, const Impl&) {
    return std::any_of(
        kernel.decls.begin(), kernel.decls.end(),
        [](const dialect::HeaderDecl& decl) { return decl.kind == dialect::DeclKind::kAcc; });
  });
}

KernelCode KernelSources::print(const KernelRequest& request, KernelFormat format,
                                const Caps& caps) const {
  return impl_->with_kernel(request, [&](const KernelDecl& kernel, const Impl& functions) {
    const dialect::Variant variant = dialect::make_variant(kernel, request);
    return dialect::Printer(variant, functions, dialect::target_of(format)).print(caps);
  });
}

}  // namespace dlk
