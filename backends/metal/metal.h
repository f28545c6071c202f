// Apple's metal-cpp, and the few helpers that every file of the backend needs: owned references,
// autorelease pools, text. Included by the backend's own .cpp files and private headers only.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <string>
#include <utility>

namespace dlk::metal {

/// Owns one reference. From `new...`, `alloc` and `copy`: `own`; from everything else: `share`.
template <typename T>
using Ref = NS::SharedPtr<T>;

template <typename T>
Ref<T> own(T* object) {
  return NS::TransferPtr(object);
}
template <typename T>
Ref<T> share(T* object) {
  return NS::RetainPtr(object);
}

/// One at every entry of the backend, completion handlers and destructors included: threads that
/// dlk or Metal starts have no pool of their own, and what is autoreleased there would leak.
class Pool {
 public:
  Pool() : pool_(NS::AutoreleasePool::alloc()->init()) {}
  ~Pool() { pool_->release(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

 private:
  NS::AutoreleasePool* pool_;
};

/// Autoreleased.
inline NS::String* ns_string(const std::string& text) {
  return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}
inline std::string text_of(const NS::String* text) {
  const char* bytes = text ? text->utf8String() : nullptr;
  return bytes ? bytes : "";
}
/// "what it says (code N)".
inline std::string text_of(NS::Error* error) {
  if (!error) return "Metal gives no reason";
  return text_of(error->localizedDescription()) + " (code " + std::to_string(error->code()) + ")";
}

/// For what older systems lack: a selector that is not there aborts the process.
bool responds_to(const void* object, const char* selector);

}  // namespace dlk::metal
