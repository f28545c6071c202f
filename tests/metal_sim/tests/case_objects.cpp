// Objects and commands: lifetime, encoders, hazards between commands, memory, faults.
#include <cstring>
#include <functional>
#include <memory>

#include "tests/metal_sim/tests/cases.h"

using namespace cases;

namespace {

constexpr const char* kAddOne = R"(kernel void add_one(device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]], uint i [[thread_position_in_grid]]) { y[i] = x[i] + 1.0f; })";

/// Two dependent dispatches, a to b to c, with something between them.
void two_dispatches(MTL::ResourceOptions options, MTL::DispatchType type,
                    const std::function<void(MTL::ComputeCommandEncoder*, MTL::Buffer*)>& between) {
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto b = empty(device.get(), 32, options), c = empty(device.get(), 32);
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(type);
  Run{state, {a.get(), b.get()}}.dispatch(encoder, 1, 32);
  between(encoder, b.get());
  Run{state, {b.get(), c.get()}}.dispatch(encoder, 1, 32);
  encoder->endEncoding();
  finish(commands);
  expect(value(c.get(), 5) == 3.0f, "1 + 1 + 1");
}

void nothing(MTL::ComputeCommandEncoder*, MTL::Buffer*) {}

}  // namespace

CASE(serial_encoder) {
  const Pool pool;
  two_dispatches(MTL::ResourceStorageModeShared, MTL::DispatchTypeSerial, nothing);
}

CASE(concurrent_with_barrier) {
  const Pool pool;
  two_dispatches(MTL::ResourceStorageModeShared, MTL::DispatchTypeConcurrent,
                 [](MTL::ComputeCommandEncoder* encoder, MTL::Buffer*) {
                   encoder->memoryBarrier(MTL::BarrierScopeBuffers);
                 });
}

CASE(concurrent_with_resource_barrier) {
  const Pool pool;
  two_dispatches(MTL::ResourceStorageModeShared, MTL::DispatchTypeConcurrent,
                 [](MTL::ComputeCommandEncoder* encoder, MTL::Buffer* middle) {
                   const MTL::Resource* resource = middle;
                   encoder->memoryBarrier(&resource, 1);
                 });
}

CAUGHT(read_after_write_without_barrier, "read after an unordered write by an earlier command") {
  const Pool pool;
  two_dispatches(MTL::ResourceStorageModeShared, MTL::DispatchTypeConcurrent, nothing);
}

CAUGHT(write_after_read_without_barrier, "write after an unordered read by an earlier command") {
  const Pool pool;
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto b = empty(device.get(), 32), c = floats(device.get(), std::vector<float>(32, 5.0f));
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  auto* encoder = commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  Run{state, {a.get(), b.get()}}.dispatch(encoder, 1, 32);
  Run{state, {c.get(), a.get()}}.dispatch(encoder, 1, 32);
  encoder->endEncoding();
  finish(commands);
}

static void untracked(const std::function<void(MTL::ComputeCommandEncoder*)>& after_first,
                      const std::function<void(MTL::ComputeCommandEncoder*)>& before_second) {
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto b = empty(device.get(), 32, MTL::ResourceHazardTrackingModeUntracked);
  const auto c = empty(device.get(), 32);
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* first = commands->computeCommandEncoder();
  Run{state, {a.get(), b.get()}}.dispatch(first, 1, 32);
  after_first(first);
  first->endEncoding();
  MTL::ComputeCommandEncoder* second = commands->computeCommandEncoder();
  before_second(second);
  Run{state, {b.get(), c.get()}}.dispatch(second, 1, 32);
  second->endEncoding();
  finish(commands);
}

CAUGHT(untracked_without_fence, "read after an unordered write by an earlier command") {
  const Pool pool;
  untracked([](auto*) {}, [](auto*) {});
}

CASE(untracked_with_fence) {
  const Pool pool;
  const auto device = open_device();
  const auto fence = NS::TransferPtr(device->newFence());
  untracked([&](auto* encoder) { encoder->updateFence(fence.get()); },
            [&](auto* encoder) { encoder->waitForFence(fence.get()); });
}

CASE(untracked_with_wait) {
  const Pool pool;
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto b = empty(device.get(), 32, MTL::ResourceHazardTrackingModeUntracked);
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  for (int i = 0; i < 2; ++i) {
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    Run{state, {a.get(), b.get()}}.dispatch(encoder, 1, 32);
    encoder->endEncoding();
    finish(commands);
  }
}

CASE(events_between_queues) {
  const Pool pool;
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto b = empty(device.get(), 32, MTL::ResourceHazardTrackingModeUntracked);
  const auto c = empty(device.get(), 32);
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto one = NS::TransferPtr(device->newCommandQueue());
  const auto two = NS::TransferPtr(device->newCommandQueue());
  const auto event = NS::TransferPtr(device->newSharedEvent());
  MTL::CommandBuffer* producer = one->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = producer->computeCommandEncoder();
  Run{state, {a.get(), b.get()}}.dispatch(encoder, 1, 32);
  encoder->endEncoding();
  producer->encodeSignalEvent(event.get(), 7);
  MTL::CommandBuffer* consumer = two->commandBuffer();
  consumer->encodeWait(event.get(), 7);
  encoder = consumer->computeCommandEncoder();
  Run{state, {b.get(), c.get()}}.dispatch(encoder, 1, 32);
  encoder->endEncoding();
  consumer->commit();
  producer->commit();
  consumer->waitUntilCompleted();
  expect(event->signaledValue() == 7 && value(c.get(), 0) == 3.0f, "the second queue's result");
}

CASE(heaps_and_aliasing) {
  const Pool pool;
  const auto device = open_device();
  const auto descriptor = NS::TransferPtr(MTL::HeapDescriptor::alloc()->init());
  descriptor->setSize(4096);
  descriptor->setStorageMode(MTL::StorageModeShared);
  descriptor->setHazardTrackingMode(MTL::HazardTrackingModeTracked);
  const auto heap = NS::TransferPtr(device->newHeap(descriptor.get()));
  const auto options = MTL::ResourceStorageModeShared | MTL::ResourceHazardTrackingModeTracked;
  const auto first = NS::TransferPtr(heap->newBuffer(1024, options));
  auto second = NS::TransferPtr(heap->newBuffer(3072, options));
  expect(heap->usedSize() == 4096, "the heap is full");
  expect(!heap->newBuffer(256, options), "no room for more");
  const void* place = second->contents();
  second.reset();
  expect(heap->maxAvailableSize(256) == 3072, "a released buffer gives its room back");
  const auto third = NS::TransferPtr(heap->newBuffer(512, options));
  expect(third->contents() == place, "the room is used again");
  third->makeAliasable();
  const auto alias = NS::TransferPtr(heap->newBuffer(512, options));
  expect(alias->contents() == place, "an aliasable buffer's room is used again");
}

CAUGHT(aliases_without_barrier, "write after an unordered write by an earlier command") {
  const Pool pool;
  const auto device = open_device();
  const auto descriptor = NS::TransferPtr(MTL::HeapDescriptor::alloc()->init());
  descriptor->setSize(1024);
  descriptor->setType(MTL::HeapTypePlacement);
  descriptor->setStorageMode(MTL::StorageModePrivate);
  const auto heap = NS::TransferPtr(device->newHeap(descriptor.get()));
  const auto one = NS::TransferPtr(heap->newBuffer(256, MTL::ResourceStorageModePrivate, 0));
  const auto two = NS::TransferPtr(heap->newBuffer(256, MTL::ResourceStorageModePrivate, 0));
  const auto a = floats(device.get(), std::vector<float>(32, 1.0f));
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  for (MTL::Buffer* target : {one.get(), two.get()}) {
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    Run{state, {a.get(), target}}.dispatch(encoder, 1, 32);
    encoder->endEncoding();
    commands->commit();
  }
  MTL::CommandBuffer* last = queue->commandBuffer();
  finish(last);
}

CASE(managed_storage) {
  const Pool pool;
  const auto device = open_device();
  const auto x = empty(device.get(), 32, MTL::ResourceStorageModeManaged);
  const auto y = empty(device.get(), 32, MTL::ResourceStorageModeManaged);
  auto* values = static_cast<float*>(x->contents());
  for (int i = 0; i < 32; ++i) values[i] = 2.0f;
  x->didModifyRange(NS::Range(0, 128));
  const auto state = pipeline(device.get(), kAddOne, "add_one");
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  Run{state, {x.get(), y.get()}}.dispatch(encoder, 1, 32);
  encoder->endEncoding();
  MTL::BlitCommandEncoder* blit = commands->blitCommandEncoder();
  expect(value(y.get(), 0) != 3.0f, "the CPU does not see it yet");
  blit->synchronizeResource(y.get());
  blit->endEncoding();
  finish(commands);
  expect(value(y.get(), 0) == 3.0f, "the CPU sees it after synchronizeResource");
}

CAUGHT(managed_without_did_modify, "read of uninitialised device memory") {
  const Pool pool;
  const auto device = open_device();
  const auto x = empty(device.get(), 32, MTL::ResourceStorageModeManaged);
  const auto y = empty(device.get(), 32);
  static_cast<float*>(x->contents())[0] = 2.0f;
  run_kernel(kAddOne, "add_one", {x.get(), y.get()}, 1, 1);
}

CAUGHT(private_contents, "contents of a private buffer is nil") {
  const Pool pool;
  const auto device = open_device();
  const auto buffer = empty(device.get(), 4, MTL::ResourceStorageModePrivate);
  expect(buffer->contents() == nullptr, "private memory has no host address");
}

CASE(blit_copy) {
  const Pool pool;
  const auto device = open_device();
  const auto a = floats(device.get(), {1.0f, 2.0f, 3.0f, 4.0f});
  const auto b = empty(device.get(), 4, MTL::ResourceStorageModePrivate),
             c = empty(device.get(), 4);
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::BlitCommandEncoder* blit = commands->blitCommandEncoder();
  blit->copyFromBuffer(a.get(), 0, b.get(), 0, 16);
  blit->fillBuffer(b.get(), NS::Range(0, 4), 0);
  blit->copyFromBuffer(b.get(), 0, c.get(), 0, 16);
  blit->endEncoding();
  finish(commands);
  expect(value(c.get(), 0) == 0.0f && value(c.get(), 3) == 4.0f, "the copied values");
}

CASE(adopted_memory) {
  const Pool pool;
  const auto device = open_device();
  void* memory = nullptr;
  expect(::posix_memalign(&memory, 16384, 16384) == 0, "page-aligned memory");
  static bool freed = false;
  {
    const auto buffer = NS::TransferPtr(
        device->newBuffer(memory, 16384, MTL::ResourceStorageModeShared, ^(void* p, NS::UInteger) {
          std::free(p);
          freed = true;
        }));
    expect(buffer->contents() == memory, "the buffer stands on the memory");
  }
  expect(freed, "the deallocator ran");
}

CAUGHT(misaligned_adoption, "must be multiples of the page") {
  const Pool pool;
  const auto device = open_device();
  static char memory[64];
  device->newBuffer(memory, 64, MTL::ResourceStorageModeShared, nullptr);
}

CAUGHT(missing_pool, "autoreleased with no pool in place") {
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  queue->commandBuffer()->commit();
}

CAUGHT(over_release, "message sent to deallocated instance") {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  commands->release();
  commands->commit();
}

CAUGHT(use_after_drain, "message sent to deallocated instance") {
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  NS::AutoreleasePool* pool = NS::AutoreleasePool::alloc()->init();
  MTL::CommandBuffer* commands = queue->commandBuffer();
  pool->release();
  commands->commit();
}

CAUGHT(leak, "FAILED: no buffer is left") {
  const Pool pool;
  const auto device = open_device();
  device->newBuffer(64, MTL::ResourceStorageModeShared);
  expect(metal_sim_live_objects("MTLBuffer") == 0, "no buffer is left");
}

CASE(handlers) {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  static int status = 0;
  {
    const Pool inner;
    MTL::CommandBuffer* commands = queue->commandBuffer();
    auto shared = std::make_shared<int>(5);
    commands->addCompletedHandler([shared](MTL::CommandBuffer* done) {
      status = static_cast<int>(done->status()) * *shared;
    });
    commands->commit();
    commands->waitUntilCompleted();
  }
  expect(status == 5 * MTL::CommandBufferStatusCompleted, "the handler ran");
  expect(metal_sim_live_objects("MTLCommandBuffer") == 0, "no command buffer is left");
}

CAUGHT(late_handler, "the handler comes too late") {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  commands->commit();
  commands->addCompletedHandler([](MTL::CommandBuffer*) {});
}

CAUGHT(open_encoder_at_commit, "is still open") {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  commands->computeCommandEncoder();
  commands->commit();
}

CAUGHT(wait_before_commit, "is not committed") {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  queue->commandBuffer()->waitUntilCompleted();
}

CAUGHT(unknown_selector, "unrecognized selector") {
  const Pool pool;
  const auto device = open_device();
  device->newTexture(static_cast<MTL::TextureDescriptor*>(nullptr));
}

CAUGHT_WITH(newer_selector, "METAL_SIM_MACOS=13", "unrecognized selector") {
  const Pool pool;
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  options->setMathMode(MTL::MathModeSafe);
}

CAUGHT_WITH(message_to_nil, "METAL_SIM_FAULT=no-device", "sent to nil") {
  const Pool pool;
  MTL::Device* device = MTL::CreateSystemDefaultDevice();
  device->newCommandQueue();
}

CAUGHT(missing_binding, "missing buffer binding at index 1 for argument 'y'") {
  const Pool pool;
  const auto device = open_device();
  const auto y = empty(device.get(), 4);
  run_kernel(kAddOne, "add_one", {y.get()}, 1, 4);
}

CAUGHT(oversized_threadgroup_memory, "exceeds the maximum threadgroup memory") {
  const Pool pool;
  const auto device = open_device();
  const auto library = build(device.get(), R"(kernel void k(device float* y [[buffer(0)]]) {
      threadgroup float l[9000]; l[0] = 1.0f; y[0] = l[0]; })");
  const auto function =
      NS::TransferPtr(library->newFunction(NS::String::string("k", NS::UTF8StringEncoding)));
  NS::Error* error = nullptr;
  expect(!device->newComputePipelineState(function.get(), &error), "the pipeline is refused");
  std::printf("%s\n", error->localizedDescription()->utf8String());
}

CAUGHT(too_many_threads, "2048 threads a threadgroup") {
  const Pool pool;
  const auto device = open_device();
  const auto x = floats(device.get(), std::vector<float>(2048, 1.0f));
  const auto y = empty(device.get(), 2048);
  run_kernel(kAddOne, "add_one", {x.get(), y.get()}, 1, 2048);
}

CASE(binary_archive) {
  const Pool pool;
  const auto device = open_device();
  const auto library = build(device.get(), kAddOne);
  const auto function =
      NS::TransferPtr(library->newFunction(NS::String::string("add_one", NS::UTF8StringEncoding)));
  const auto wanted = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  wanted->setComputeFunction(function.get());
  NS::Error* error = nullptr;
  const auto archive_of = NS::TransferPtr(MTL::BinaryArchiveDescriptor::alloc()->init());
  const auto archive = NS::TransferPtr(device->newBinaryArchive(archive_of.get(), &error));
  wanted->setBinaryArchives(NS::Array::array(archive.get()));
  const auto option = MTL::PipelineOptionFailOnBinaryArchiveMiss;
  expect(!device->newComputePipelineState(wanted.get(), option, nullptr, &error), "a miss");
  expect(archive->addComputePipelineFunctions(wanted.get(), &error), "adding");
  const auto state =
      NS::TransferPtr(device->newComputePipelineState(wanted.get(), option, nullptr, &error));
  expect(state.get() != nullptr, "a hit");
}

CAUGHT_WITH(injected_command_buffer_error, "METAL_SIM_FAULT=command-buffer-timeout=1",
            "command buffer error 2") {
  const Pool pool;
  const auto device = open_device();
  const auto queue = NS::TransferPtr(device->newCommandQueue());
  MTL::CommandBuffer* commands = queue->commandBuffer();
  finish(commands);
  expect(commands->status() == MTL::CommandBufferStatusError, "the command buffer failed");
}

CAUGHT_WITH(injected_compile_error, "METAL_SIM_FAULT=compile-error", "injected compile error") {
  const Pool pool;
  const auto device = open_device();
  expect(!build(device.get(), kAddOne), "the library does not compile");
}

CAUGHT_WITH(injected_out_of_memory, "METAL_SIM_FAULT=out-of-memory", "ok") {
  const Pool pool;
  const auto device = open_device();
  expect(!device->newBuffer(64, MTL::ResourceStorageModeShared), "no memory");
  const auto next = empty(device.get(), 16);
  expect(next.get() != nullptr, "only the first allocation fails");
}

namespace {

void print_profile() {
  const Pool pool;
  const auto device = open_device();
  std::printf("%s: apple7 %d apple9 %d mac2 %d metal3 %d unified %d\n",
              device->name()->utf8String(), device->supportsFamily(MTL::GPUFamilyApple7),
              device->supportsFamily(MTL::GPUFamilyApple9),
              device->supportsFamily(MTL::GPUFamilyMac2),
              device->supportsFamily(MTL::GPUFamilyMetal3), device->hasUnifiedMemory());
}

}  // namespace

CAUGHT_WITH(profile_apple7, "METAL_SIM_PROFILE=apple7",
            "apple7 1 apple9 0 mac2 1 metal3 1 unified 1") {
  print_profile();
}
CAUGHT_WITH(profile_apple9, "METAL_SIM_PROFILE=apple9",
            "apple7 1 apple9 1 mac2 1 metal3 1 unified 1") {
  print_profile();
}
CAUGHT_WITH(profile_paravirtual, "METAL_SIM_PROFILE=paravirtual",
            "apple7 0 apple9 0 mac2 1 metal3 0 unified 1") {
  print_profile();
}
CAUGHT_WITH(profile_discrete, "METAL_SIM_PROFILE=discrete",
            "apple7 0 apple9 0 mac2 1 metal3 1 unified 0") {
  print_profile();
}
