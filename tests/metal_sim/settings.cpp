#include "tests/metal_sim/settings.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/metal_sim/report.h"

namespace metal_sim {

namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

constexpr Profile kProfiles[] = {
    {"apple7", "Apple M1 (simulated)", 1007, true, 5001, true, true, false, 32768, 8 * kGiB, 1024,
     false, false},
    {"apple9", "Apple M3 (simulated)", 1009, true, 5001, true, true, true, 32768, 8 * kGiB, 1024,
     false, false},
    {"paravirtual", "Apple Paravirtual device (simulated)", 1005, true, 0, true, false, false,
     32768, 2 * kGiB, 512, false, false},
    {"discrete", "AMD Radeon Pro (simulated)", 0, true, 5001, false, false, false, 65536, 4 * kGiB,
     1024, false, true},
};

const char* text_of(const char* name, const char* otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? text : otherwise;
}

const Profile* chosen_profile() {
  const char* wanted = text_of("METAL_SIM_PROFILE", "apple7");
  for (const Profile& profile : kProfiles) {
    if (std::strcmp(profile.key, wanted) == 0) return &profile;
  }
  fatal("METAL_SIM_PROFILE=%s is unknown; use apple7, apple9, paravirtual or discrete", wanted);
}

ThreadOrder chosen_order() {
  const std::string order = text_of("METAL_SIM_ORDER", "forward");
  if (order == "forward") return ThreadOrder::kForward;
  if (order == "reverse") return ThreadOrder::kReverse;
  if (order == "random") return ThreadOrder::kRandom;
  fatal("METAL_SIM_ORDER=%s is unknown; use forward, reverse or random", order.c_str());
}

}  // namespace

const Settings& settings() {
  static const Settings chosen = {
      chosen_profile(), std::atoi(text_of("METAL_SIM_MACOS", "15")), chosen_order(),
      static_cast<uint32_t>(std::atoi(text_of("METAL_SIM_DELAY_US", "50")))};
  return chosen;
}

std::string fault(const char* name) {
  const std::string all = text_of("METAL_SIM_FAULT", "");
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find(',', at), all.size());
    const std::string entry = all.substr(at, end - at);
    const size_t equals = entry.find('=');
    if (entry.substr(0, equals) == name) {
      return equals == std::string::npos ? "1" : entry.substr(equals + 1);
    }
    at = end + 1;
  }
  return {};
}

bool fault_due(const char* name) {
  static std::mutex* mutex = new std::mutex;
  static auto* counts = new std::map<std::string, std::pair<std::string, int>>;
  const std::string value = fault(name);
  const std::lock_guard lock(*mutex);
  auto& [last_value, count] = (*counts)[name];
  if (value != last_value) {
    last_value = value;
    count = 0;
  }
  if (value.empty()) return false;
  return ++count == std::atoi(value.c_str());
}

}  // namespace metal_sim
