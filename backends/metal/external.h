// A dlk device made from an application's own Metal objects, so that both share memory and a queue,
// and events that order dlk's work with the application's. Names no Metal type: handles travel as
// void* (`(__bridge void*)` in Objective-C, Unmanaged in Swift, the pointer itself in metal-cpp).
#pragma once

#include <cstdint>
#include <memory>

#include "core/device/device.h"

namespace dlk {

/// `device` and `queue` are an MTLDevice and an MTLCommandQueue of it; both are retained. With a
/// queue all dlk queues of the device commit to it; without one (nullptr) dlk makes its own. The
/// device checks nothing: wrap it in checked_device.
std::shared_ptr<Device> wrap_metal(void* device, void* queue = nullptr);

/// The application's MTLBuffer, retained, as a buffer of a device that wrap_metal returned (the
/// device itself, not a checked one). Private, shared and managed buffers will do.
std::shared_ptr<Buffer> wrap_metal_buffer(Device& device, void* buffer);

/// The MTLSharedEvent that takes the value of each of the queue's tickets when its work is done.
/// Owned by the queue.
void* metal_ticket_event(Queue& queue);

/// What is submitted to `queue` from now on starts once the MTLSharedEvent has reached `value`.
void metal_wait_for_event(Queue& queue, void* event, uint64_t value);

}  // namespace dlk
