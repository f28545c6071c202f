// Helpers of the simulator's test programs, and the list that CASE adds to.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" {
uint64_t metal_sim_problem_count();
long metal_sim_live_objects(const char* class_name);
}

namespace cases {

struct Case {
  const char* name;
  const char* environment;  // "NAME=value", or ""
  const char* expected;     // what it prints; "ok": and nothing is reported
  void (*run)();
};
std::vector<Case>& all();
bool add(const Case& added);
/// Ends the program with 3 where the condition does not hold.
void expect(bool condition, const char* what);

NS::SharedPtr<MTL::Device> open_device();
/// Compiles MSL text; nullptr and the compiler's log (or a line on stdout) where it fails.
NS::SharedPtr<MTL::Library> build(MTL::Device* device, const char* source,
                                  std::string* log = nullptr);
NS::SharedPtr<MTL::ComputePipelineState> pipeline(MTL::Device* device, const char* source,
                                                  const char* name);
NS::SharedPtr<MTL::Buffer> floats(MTL::Device* device, const std::vector<float>& values);
NS::SharedPtr<MTL::Buffer> empty(MTL::Device* device, size_t count,
                                 MTL::ResourceOptions options = MTL::ResourceStorageModeShared);
float value(MTL::Buffer* buffer, size_t index);
/// Commits, waits, and prints the command buffer's error if it has one.
void finish(MTL::CommandBuffer* commands);

struct Run {
  NS::SharedPtr<MTL::ComputePipelineState> state;
  std::vector<MTL::Buffer*> buffers;
  void dispatch(MTL::ComputeCommandEncoder* encoder, size_t groups, size_t threads) const;
};
/// One dispatch of a kernel on buffers 0, 1, ...
void run_kernel(const char* source, const char* name, const std::vector<MTL::Buffer*>& buffers,
                size_t groups, size_t threads);

struct Pool {
  NS::AutoreleasePool* pool = NS::AutoreleasePool::alloc()->init();
  ~Pool() { pool->release(); }
};

}  // namespace cases

#define CAUGHT_WITH(name, environment, expected)                                            \
  static void case_##name();                                                                \
  static const bool added_##name = cases::add({#name, environment, expected, case_##name}); \
  static void case_##name()
/// CAUGHT(name, "text") { ... }: a wrong program, about which the simulator prints the text.
#define CAUGHT(name, expected) CAUGHT_WITH(name, "", expected)
/// CASE(name) { ... }: a right program, about which it has nothing to say.
#define CASE(name) CAUGHT_WITH(name, "", "ok")
