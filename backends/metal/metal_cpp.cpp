// The one place where metal-cpp's own definitions are compiled.
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include <objc/message.h>

#include "backends/metal/metal.h"

namespace dlk::metal {

bool responds_to(const void* object, const char* selector) {
  using Send = BOOL (*)(const void*, SEL, SEL);
  return reinterpret_cast<Send>(&objc_msgSend)(object, sel_registerName("respondsToSelector:"),
                                               sel_registerName(selector));
}

}  // namespace dlk::metal
