// A device that validates: wraps any device, rejects what can be foreseen (bounds, overlap of a
// written view with another operand, operand and parameter counts, group counts and sizes beyond
// the device's limits, unknown tickets, foreign buffers) with an InvalidArgument that names the
// command's label, and passes the rest on. From Python it is always on.
// An operand that is read may be exactly the view that the same dispatch writes (in-place pointwise
// kernels); any other overlap with a written view is refused.
// DLK_KERNEL_SHAPES=gpu makes it report a CPU driver as a GPU, so that tests can run the kernels of
// GPUs anywhere; DLK_HIDE_CAPS=fp64,int64 makes it report features as missing, so that tests can
// hold dlk to what a poorer device must refuse.
// Buffers, kernels and recordings are known to the checked device that made them, and only to it.
#pragma once

#include <memory>
#include <string_view>

#include "core/device/device.h"

namespace dlk {

std::shared_ptr<Device> checked_device(std::shared_ptr<Device> device);

/// Makes the named boolean field of `caps` false; returns whether there is one.
bool clear_flag(Caps& caps, std::string_view name);

}  // namespace dlk
