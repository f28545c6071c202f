// The weights of one model on its device: constants and variables as they are stored, packed forms
// and folded parts of the graph, each once under its key. Shared by all plans and sessions.
// Internal to the engine; the model serializes the calls.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/device/arena.h"
#include "core/device/device.h"
#include "core/kernel/library.h"
#include "core/runtime/program.h"

namespace dlk {

/// The tensor's bytes converted to `dtype`.
HostTensor converted(const HostTensor& tensor, DType dtype);

class WeightStore {
 public:
  explicit WeightStore(std::shared_ptr<Device> device);
  bool has(const std::string& key) const { return weights_.contains(key); }
  /// InvalidArgument if it was never made.
  const View& get(const std::string& key) const;
  /// Makes `data` available under `key`, stored as `dtype`, if it is new: in place where nobody
  /// writes it, it needs no conversion and the device reads host memory as fast as its own.
  void ensure(const std::string& key, const HostTensor& data, DType dtype, bool writable = false);
  /// Uses memory of another store under `key`.
  void adopt(const std::string& key, View view) { weights_[key] = std::move(view); }
  void overwrite(const std::string& key, const HostTensor& data);
  HostTensor read(const std::string& key, DType dtype, const Shape& shape);
  /// Sends what preparations read ahead of them, as far as it fits at once.
  void send(const std::vector<Preparation>& preparations);
  /// Runs a preparation whose keys are new. Host data that only it needs is not kept.
  void prepare(Preparation preparation, KernelLibrary& library);
  /// Waits for the uploads and preparations so far and frees what only they used.
  void flush();
  uint64_t bytes() const { return bytes_; }
  /// Of those, and of what preparations read, the bytes that were not copied.
  uint64_t adopted_bytes() const { return adopted_bytes_; }

 private:
  View allocate(uint64_t size_bytes, Arena& arena);
  void upload(const View& view, const HostTensor& data);
  bool is_made(const Preparation& preparation) const;
  /// Data for the preparations until the next flush, by key and dtype.
  const View& sent(const Storage& storage);
  View send(const HostTensor& stored);
  std::optional<View> adopt(const HostTensor& data);

  std::shared_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
  Arena arena_;
  std::map<std::string, View> weights_;
  Ticket last_;
  uint64_t bytes_ = 0;
  uint64_t adopted_bytes_ = 0;
  uint64_t pending_bytes_ = 0;
  std::map<std::pair<std::string, DType>, View> sent_;
  std::optional<Arena> sent_arena_;               // where that lies
  std::vector<std::shared_ptr<Buffer>> pending_;  // used by work that is not waited for
};

}  // namespace dlk
