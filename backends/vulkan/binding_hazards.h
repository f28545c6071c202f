// Hazards that only the validation layer sees. A descriptor starts at Caps::binding_alignment and
// ends on a whole word, so it may reach a few bytes beyond its view, and it has the gaps between a
// view's stripes. Kernels do not touch those bytes, but synchronization validation takes the whole
// descriptor for used. While validation is on, recordings get a barrier where nothing but such
// bytes collide; missing barriers between the views themselves are left for the layer to find.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/hazards.h"

namespace dlk::vulkan {

class BindingHazards {
 public:
  /// `views`: what the next command uses; `bound`: the same as its descriptors cover it. True
  /// where a barrier must stand before it for the sake of the descriptors alone.
  bool add(const std::vector<RangeUse>& views, const std::vector<RangeUse>& bound) {
    const bool real = views_.add(views);
    const bool seen = bound_.add(bound);
    return seen && !real;
  }

 private:
  HazardTracker views_, bound_;
};

}  // namespace dlk::vulkan
