// The one exception type of dlk. Every failure that a caller can act on is an Error with a code;
// the message says what was wrong and what to do, with native error codes and build logs in it.
// Python maps the codes to ValueError, NotImplementedError, MemoryError and dlk.Error.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace dlk {

enum class ErrorCode { kInvalidArgument, kUnsupported, kOutOfMemory, kCompileFailed, kDeviceLost };

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] inline void throw_invalid(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}
[[noreturn]] inline void throw_unsupported(const std::string& message) {
  throw Error(ErrorCode::kUnsupported, message);
}

}  // namespace dlk
