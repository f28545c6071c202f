// Small Metal programs, right and wrong ones, against the genuine metal-cpp headers: what the
// simulator has to accept and what it has to catch. `metal_sim_cases NAME` runs one in this
// process; without a name, each runs in a process of its own, and what it prints is compared.
#include "tests/metal_sim/tests/cases.h"

#include <cstdio>
#include <cstring>

namespace cases {

std::vector<Case>& all() {
  static std::vector<Case> cases;
  return cases;
}

bool add(const Case& added) {
  all().push_back(added);
  return true;
}

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  std::fflush(stdout);
  std::exit(3);
}

NS::SharedPtr<MTL::Device> open_device() {
  auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  expect(device.get() != nullptr, "there is a device");
  return device;
}

NS::SharedPtr<MTL::Library> build(MTL::Device* device, const char* source, std::string* log) {
  auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  options->setLanguageVersion(MTL::LanguageVersion3_1);
  options->setMathMode(MTL::MathModeSafe);
  NS::Error* error = nullptr;
  const std::string text =
      std::string("#include <metal_stdlib>\nusing namespace metal;\n") + source;
  auto library = NS::TransferPtr(device->newLibrary(
      NS::String::string(text.c_str(), NS::UTF8StringEncoding), options.get(), &error));
  if (!library) {
    expect(error != nullptr, "an error comes with a library that is not there");
    const char* description = error->localizedDescription()->utf8String();
    if (log) {
      *log = description;
    } else {
      std::printf("%s\n", description);
    }
  }
  return library;
}

NS::SharedPtr<MTL::ComputePipelineState> pipeline(MTL::Device* device, const char* source,
                                                  const char* name) {
  const auto library = build(device, source);
  expect(library.get() != nullptr, "the library compiles");
  const auto function =
      NS::TransferPtr(library->newFunction(NS::String::string(name, NS::UTF8StringEncoding)));
  expect(function.get() != nullptr, "the function is there");
  NS::Error* error = nullptr;
  auto state = NS::TransferPtr(device->newComputePipelineState(function.get(), &error));
  expect(state.get() != nullptr, "the pipeline builds");
  return state;
}

NS::SharedPtr<MTL::Buffer> floats(MTL::Device* device, const std::vector<float>& values) {
  auto buffer =
      NS::TransferPtr(device->newBuffer(values.size() * 4, MTL::ResourceStorageModeShared));
  std::memcpy(buffer->contents(), values.data(), values.size() * 4);
  return buffer;
}

NS::SharedPtr<MTL::Buffer> empty(MTL::Device* device, size_t count, MTL::ResourceOptions options) {
  return NS::TransferPtr(device->newBuffer(count * 4, options));
}

float value(MTL::Buffer* buffer, size_t index) {
  return static_cast<const float*>(buffer->contents())[index];
}

void finish(MTL::CommandBuffer* commands) {
  commands->commit();
  commands->waitUntilCompleted();
  if (commands->status() == MTL::CommandBufferStatusError) {
    std::printf("command buffer error %ld: %s\n", static_cast<long>(commands->error()->code()),
                commands->error()->localizedDescription()->utf8String());
  }
}

void Run::dispatch(MTL::ComputeCommandEncoder* encoder, size_t groups, size_t threads) const {
  encoder->setComputePipelineState(state.get());
  for (size_t i = 0; i < buffers.size(); ++i) encoder->setBuffer(buffers[i], 0, i);
  encoder->dispatchThreadgroups(MTL::Size(groups, 1, 1), MTL::Size(threads, 1, 1));
}

void run_kernel(const char* source, const char* name, const std::vector<MTL::Buffer*>& buffers,
                size_t groups, size_t threads) {
  const auto device = open_device();
  const Run run{pipeline(device.get(), source, name), buffers};
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  run.dispatch(encoder, groups, threads);
  encoder->endEncoding();
  finish(commands);
}

/// Runs a case in a process of its own; true where it printed what it should.
static bool run_apart(const char* program, const Case& chosen) {
  const std::string command =
      "env " + std::string(chosen.environment) + " '" + program + "' " + chosen.name + " 2>&1";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  expect(pipe != nullptr, "the case can be started");
  std::string output;
  char part[512];
  for (size_t got = 0; (got = std::fread(part, 1, sizeof part, pipe)) > 0;) {
    output.append(part, got);
  }
  const int status = ::pclose(pipe);
  const bool quiet = std::strcmp(chosen.expected, "ok") != 0 || status == 0;
  const bool good = quiet && output.find(chosen.expected) != std::string::npos;
  std::printf("%s  %s\n", good ? "passed" : "FAILED", chosen.name);
  if (!good) std::printf("expected: %s\n%s\n", chosen.expected, output.c_str());
  std::fflush(stdout);
  return good;
}

}  // namespace cases

int main(int argc, char** argv) {
  int failed = 0;
  bool found = false;
  for (const cases::Case& chosen : cases::all()) {
    if (argc < 2) {
      failed += !cases::run_apart(argv[0], chosen);
    } else if (std::strcmp(argv[1], chosen.name) == 0) {
      found = true;
      chosen.run();
      std::printf("ok\n");
      if (metal_sim_problem_count()) failed = 4;
    }
  }
  if (argc < 2) std::printf("%zu cases, %d failed\n", cases::all().size(), failed);
  if (argc >= 2 && !found) std::printf("there is no case %s\n", argv[1]);
  return argc >= 2 && !found ? 2 : failed;
}
