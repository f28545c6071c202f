// The kernel dialect: parse `.k` text, specialize it, print it for one target language. Pure text
// work: no device is needed. docs/kernel-dialect.md is the language's manual.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/device/device.h"

namespace dlk {

/// An operand that a fused epilogue adds (see the manual's "Epilogue hook").
struct EpilogueOperand {
  enum class Kind : uint8_t { kFull, kChannel, kScalar, kValue };
  Kind kind = Kind::kFull;
  DType dtype = DType::kFloat32;  // storage type; for kValue always float32
};

/// A fused epilogue: an expression in the dialect over `x`, and `e0, e1, ...` (the operands'
/// values, already loaded and converted to float). It may call any function of the dialect.
struct Epilogue {
  std::string expression;  // empty: none
  std::vector<EpilogueOperand> operands;
};

/// Names one variant of one kernel. Two equal requests are the same pipeline.
struct KernelRequest {
  std::string name;                          // kernel's name
  std::string source;                        // dialect text; empty: the embedded library
  std::map<std::string, int64_t> constants;  // overrides of `const`
  std::map<std::string, DType> types;        // overrides of `type`
  Epilogue epilogue;
  std::string lowering = "plain";  // of gang tiles

  /// Stable text that identifies the variant: cache key and pipeline count.
  std::string key() const;
};

/// What a caller must provide, known without a device.
struct KernelInterface {
  std::vector<BindingInfo> bindings;
  std::vector<ParamInfo> params;
  uint32_t param_bytes = 0;
  std::array<uint32_t, 3> group_size{1, 1, 1};
  uint32_t local_bytes = 0;
  bool needs_fp64 = false, needs_int64 = false, needs_fp16 = false, needs_int8 = false,
       needs_int16 = false, needs_subgroups = false;
};

/// A parsed set of `.k` sources: kernels, functions and libraries. Immutable once built.
class KernelSources {
 public:
  KernelSources();
  ~KernelSources();
  KernelSources(KernelSources&&) noexcept;
  KernelSources& operator=(KernelSources&&) noexcept;
  /// The sources embedded in this build (kernels/*.k), parsed once.
  static const KernelSources& embedded();
  /// Adds a file. Throws CompileFailed "FILE:LINE:COLUMN: what is wrong" with the source line.
  void add(std::string_view file_name, std::string_view text);
  std::vector<std::string> kernel_names() const;
  bool contains(std::string_view kernel) const;
  /// Of all texts: changes when any of them does.
  uint64_t hash() const;
  /// The interface of a variant; InvalidArgument for unknown kernels, constants and types.
  KernelInterface interface_of(const KernelRequest& request) const;
  /// True where the kernel has gang tiles, which a device may lower in several ways.
  bool has_tiles(const KernelRequest& request) const;
  /// Prints a variant: OpenCL C, GLSL (not yet SPIR-V) or MSL text with its calling convention.
  KernelCode print(const KernelRequest& request, KernelFormat format, const Caps& caps) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// GLSL to SPIR-V through glslang, in process; thread-safe. CompileFailed carries glslang's log and
/// the numbered source around the first error. Unsupported where the build has no glslang.
std::string compile_glsl(const std::string& glsl, const std::string& label);
/// Version of the glslang in this build, "" without one.
std::string glslang_version();

}  // namespace dlk
