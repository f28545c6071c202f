#include "core/device/registry.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>

#include "core/base/phases.h"
#include "core/device/checked.h"

namespace dlk {

namespace {

std::vector<std::unique_ptr<Backend>>& registered() {
  static std::vector<std::unique_ptr<Backend>> list;
  return list;
}

struct Candidate {
  Backend* backend = nullptr;
  uint32_t index = 0;
  Caps caps;
};

/// Held while drivers are asked and devices are opened: not every driver survives being initialized
/// by two threads at once. Recursive: a backend may stand on another one's device.
std::recursive_mutex& drivers() {
  static std::recursive_mutex mutex;
  return mutex;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::vector<Candidate> visible_devices() {
  const std::lock_guard lock(drivers());
  std::vector<Candidate> found;
  for (const auto& backend : backends()) {
    if (backend->hidden()) continue;
    uint32_t index = 0;
    for (Caps& caps : backend->enumerate()) {
      found.push_back({backend.get(), index++, std::move(caps)});
    }
  }
  return found;
}

[[noreturn]] void throw_no_device(const std::string& what) {
  std::string text = what + "; devices:";
  bool any = false;
  for (const Caps& caps : list_devices()) {
    text += "\n  " + caps.id + "  " + caps.name;
    any = true;
  }
  if (!any) text += " none";
  for (const auto& backend : backends()) {
    if (backend->hidden()) continue;
    const std::string reason = backend->unavailable_reason();
    if (!reason.empty()) text += "\n  " + backend->name() + " is not available: " + reason;
  }
  throw_invalid(text);
}

std::optional<Candidate> default_device() {
  auto all = visible_devices();
  std::erase_if(all, [](const Candidate& candidate) { return candidate.backend->never_default(); });
  // Stable: within one kind, the backends' priority decides, then the index.
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.caps.is_cpu < b.caps.is_cpu;
  });
  if (all.empty()) return std::nullopt;
  return all.front();
}

std::optional<Candidate> device_by_name(const std::string& text) {
  if (text.empty()) return std::nullopt;
  for (const Candidate& candidate : visible_devices()) {
    if (lower(candidate.caps.name).find(lower(text)) != std::string::npos) return candidate;
  }
  return std::nullopt;
}

std::optional<Candidate> device_by_id(const std::string& spec) {
  const size_t colon = spec.find(':');
  Backend* backend = find_backend(spec.substr(0, colon));
  if (!backend) return std::nullopt;
  uint32_t index = 0;
  if (colon != std::string::npos) {
    const char* begin = spec.data() + colon + 1;
    const char* end = spec.data() + spec.size();
    const auto parsed = std::from_chars(begin, end, index);
    if (begin == end || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  }
  const Phase phase("device/enumerate");
  auto caps = backend->enumerate();
  if (index >= caps.size()) return std::nullopt;
  return Candidate{backend, index, std::move(caps[index])};
}

}  // namespace

void register_backend(std::unique_ptr<Backend> backend) {
  auto& list = registered();
  const auto before = std::find_if(list.begin(), list.end(), [&](const auto& other) {
    return other->priority() < backend->priority();
  });
  list.insert(before, std::move(backend));
}

const std::vector<std::unique_ptr<Backend>>& backends() { return registered(); }

Backend* find_backend(const std::string& name) {
  for (const auto& backend : backends()) {
    if (backend->name() == name) return backend.get();
  }
  return nullptr;
}

std::vector<Caps> list_devices() {
  std::vector<Caps> caps;
  for (Candidate& candidate : visible_devices()) caps.push_back(std::move(candidate.caps));
  return caps;
}

std::shared_ptr<Device> open_device(const std::string& spec, bool checked) {
  const Phase phase("device");
  // Two threads that ask for one device get one device.
  const std::lock_guard lock(drivers());
  std::string wanted = spec;
  std::string source = "device '" + spec + "'";
  if (wanted.empty()) {
    if (const char* chosen = std::getenv("DLK_DEVICE"); chosen && *chosen) {
      wanted = chosen;
      source = "device '" + wanted + "' (from DLK_DEVICE)";
    }
  }
  std::optional<Candidate> found;
  if (wanted.empty()) {
    found = default_device();
    if (!found) throw_no_device("there is no device that dlk can use");
  } else if (wanted.starts_with("name:")) {
    found = device_by_name(wanted.substr(5));
    if (!found) throw_no_device("no device's name contains '" + wanted.substr(5) + "'");
  } else {
    found = device_by_id(wanted);
    if (!found) throw_no_device(source + " is not there");
  }

  static std::map<std::string, std::weak_ptr<Device>> open_raw, open_checked;
  const std::string id = found->backend->name() + ":" + std::to_string(found->index);
  auto device = open_raw[id].lock();
  if (!device) {
    const Phase opening("device/open");
    device = found->backend->open(found->index);
    open_raw[id] = device;
  }
  if (!checked) return device;
  auto wrapped = open_checked[id].lock();
  if (!wrapped) {
    wrapped = checked_device(std::move(device));
    open_checked[id] = wrapped;
  }
  return wrapped;
}

std::shared_ptr<Device> wrap_device(const std::string& backend, const NativeDevice& native) {
  Backend* found = find_backend(backend);
  if (!found) throw_invalid("no backend '" + backend + "' is compiled in");
  return checked_device(found->wrap(native));
}

}  // namespace dlk
