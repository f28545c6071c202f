#include "tests/metal_sim/report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace metal_sim {

namespace {

struct Log {
  std::mutex mutex;
  uint64_t count = 0;
  std::vector<std::string> texts;
};

Log& log() {
  static Log* log = new Log;  // Outlives static destructors that still release objects.
  return *log;
}

void record(const char* kind, const char* format, va_list arguments) {
  char text[2048];
  std::vsnprintf(text, sizeof text, format, arguments);
  const std::lock_guard lock(log().mutex);
  ++log().count;
  if (log().texts.size() < 200) log().texts.emplace_back(text);
  if (log().count <= 50) std::fprintf(stderr, "[metal-sim] %s: %s\n", kind, text);
  if (const char* path = std::getenv("METAL_SIM_REPORT"); path && *path) {
    if (std::FILE* file = std::fopen(path, "a")) {
      std::fprintf(file, "%s: %s\n", kind, text);
      std::fclose(file);
    }
  }
}

}  // namespace

void problem(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  record("problem", format, arguments);
  va_end(arguments);
}

void fatal(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  record("fatal", format, arguments);
  va_end(arguments);
  std::fflush(nullptr);
  std::abort();
}

uint64_t problem_count() {
  const std::lock_guard lock(log().mutex);
  return log().count;
}

std::vector<std::string> problem_texts() {
  const std::lock_guard lock(log().mutex);
  return log().texts;
}

void clear_problems() {
  const std::lock_guard lock(log().mutex);
  log().count = 0;
  log().texts.clear();
}

}  // namespace metal_sim

extern "C" uint64_t metal_sim_problem_count() { return metal_sim::problem_count(); }
extern "C" void metal_sim_clear_problems() { metal_sim::clear_problems(); }
