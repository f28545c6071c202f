#include "core/runtime/weights.h"

#include <algorithm>
#include <set>

#include "core/base/parallel.h"
#include "core/base/phases.h"

namespace dlk {

namespace {

constexpr uint64_t kChunkBytes = uint64_t{32} << 20;
// Smaller tensors share chunks: a buffer of its own costs more than the copy.
constexpr uint64_t kLeastAdoptedBytes = uint64_t{64} << 10;
constexpr uint64_t kMaxPendingBytes = uint64_t{256} << 20;

HostTensor halves_of(const HostTensor& tensor) {
  const Phase phase("plan/weights/to half");
  const auto count = static_cast<size_t>(tensor.elements());
  auto halves = std::make_shared_for_overwrite<uint16_t[]>(count);
  floats_to_halves(tensor.data.get(), count, halves.get());
  return {
      DType::kFloat16, tensor.shape,
      std::shared_ptr<const std::byte>(halves, reinterpret_cast<const std::byte*>(halves.get()))};
}

}  // namespace

HostTensor converted(const HostTensor& tensor, DType dtype) {
  if (tensor.dtype == dtype) return tensor;
  if (tensor.dtype == DType::kFloat32 && dtype == DType::kFloat16) return halves_of(tensor);
  if (is_floating(tensor.dtype)) {
    return HostTensor::from_doubles(dtype, tensor.shape, tensor.to_doubles());
  }
  return HostTensor::from_ints(dtype, tensor.shape, tensor.to_ints());
}

WeightStore::WeightStore(std::shared_ptr<Device> device)
    : device_(std::move(device)), queue_(device_->create_queue()), arena_(device_, kChunkBytes) {}

const View& WeightStore::get(const std::string& key) const {
  const auto found = weights_.find(key);
  if (found == weights_.end()) throw_invalid("weight '" + key + "' was not made");
  return found->second;
}

View WeightStore::allocate(uint64_t size_bytes, Arena& arena) {
  const Caps& caps = device_->caps();
  const uint64_t wanted = std::max<uint64_t>(size_bytes, 4);
  if (wanted <= std::min(caps.max_binding_bytes, caps.max_buffer_bytes)) {
    return arena.allocate(wanted);
  }
  // Kernels that split their work reach it in pieces.
  return {device_->allocate(wanted, MemoryKind::kDevice), 0, wanted};
}

void WeightStore::upload(const View& view, const HostTensor& data) {
  if (data.size_bytes() == 0) return;
  const Phase phase("plan/weights/upload");
  last_ = queue_->write({view.buffer, view.offset_bytes, data.size_bytes()}, data.bytes());
}

/// The tensor's own memory as a buffer; nothing where it must or should be copied.
std::optional<View> WeightStore::adopt(const HostTensor& data) {
  const Caps& caps = device_->caps();
  const uint64_t bytes = data.size_bytes();
  const bool pays = caps.host_import && caps.unified_memory && bytes >= kLeastAdoptedBytes;
  if (!data.immutable || !pays || bytes > caps.max_buffer_bytes) return std::nullopt;
  try {
    const auto memory = std::const_pointer_cast<std::byte>(data.data);
    View view{device_->adopt(memory.get(), bytes, memory), 0, bytes};
    adopted_bytes_ += bytes;
    return view;
  } catch (const Error& error) {
    // The alignment is not the device's, or the driver takes no memory of this kind.
    if (error.code() == ErrorCode::kUnsupported || error.code() == ErrorCode::kOutOfMemory) {
      return std::nullopt;
    }
    throw;
  }
}

void WeightStore::ensure(const std::string& key, const HostTensor& data, DType dtype,
                         bool writable) {
  if (has(key)) return;
  const HostTensor stored = converted(data, dtype);
  if (!writable) {
    if (const std::optional<View> own = adopt(stored)) {
      bytes_ += own->size_bytes;
      weights_[key] = *own;
      return;
    }
  }
  bytes_ += stored.size_bytes();
  const View view = allocate(stored.size_bytes(), arena_);
  upload(view, stored);
  weights_[key] = view;
}

void WeightStore::overwrite(const std::string& key, const HostTensor& data) {
  upload(get(key), data);
  flush();
}

HostTensor WeightStore::read(const std::string& key, DType dtype, const Shape& shape) {
  HostTensor tensor{dtype, shape, nullptr};
  std::vector<std::byte> bytes(tensor.size_bytes());
  const View& view = get(key);
  if (!bytes.empty()) {
    queue_->wait(queue_->read({view.buffer, view.offset_bytes, bytes.size()}, bytes));
  }
  return HostTensor::copy_of(dtype, shape, bytes);
}

bool WeightStore::is_made(const Preparation& preparation) const {
  return std::ranges::all_of(preparation.keys, [&](const std::string& key) { return has(key); });
}

const View& WeightStore::sent(const Storage& storage) {
  const std::pair name{storage.key, storage.dtype};
  if (const auto found = sent_.find(name); found != sent_.end()) return found->second;
  return sent_[name] = send(converted(*storage.data, storage.dtype));
}

View WeightStore::send(const HostTensor& stored) {
  View view;
  if (const std::optional<View> own = adopt(stored)) {
    view = *own;
  } else {
    if (sent_arena_) {
      view = allocate(stored.size_bytes(), *sent_arena_);
    } else {
      const uint64_t bytes = std::max<uint64_t>(stored.size_bytes(), 4);
      view = {device_->allocate(bytes, MemoryKind::kDevice), 0, bytes};
    }
    upload(view, stored);
    pending_bytes_ += view.size_bytes;
  }
  pending_.push_back(view.buffer);
  return view;
}

void WeightStore::send(const std::vector<Preparation>& preparations) {
  const Phase phase("plan/send");
  std::vector<const Storage*> wanted;
  std::set<std::pair<std::string, DType>> names;
  uint64_t bytes = pending_bytes_;
  for (const Preparation& preparation : preparations) {
    if (is_made(preparation)) continue;
    for (const PlannedCommand& command : preparation.program.commands) {
      for (const PlannedOperand& operand : command.operands) {
        const Storage& storage = preparation.program.storages[operand.storage];
        const std::pair name{storage.key, storage.dtype};
        const bool is_output = storage.kind == StorageKind::kOutput;
        if (is_output || !storage.data || has(storage.key) || sent_.contains(name)) continue;
        if (bytes + storage.size_bytes > kMaxPendingBytes) continue;
        if (!names.insert(name).second) continue;
        bytes += storage.size_bytes;
        wanted.push_back(&storage);
      }
    }
  }
  // Conversions take as long as one thread can touch new memory: several share that.
  std::vector<HostTensor> stored(wanted.size());
  parallel_for(wanted.size(),
               [&](size_t i) { stored[i] = converted(*wanted[i]->data, wanted[i]->dtype); });
  uint64_t room = 0;
  for (const HostTensor& tensor : stored) room += tensor.size_bytes() + kArenaAlignment;
  if (!wanted.empty()) sent_arena_.emplace(device_, std::min(kChunkBytes, room));
  for (size_t i = 0; i < wanted.size(); ++i) {
    sent_[{wanted[i]->key, wanted[i]->dtype}] = send(stored[i]);
    stored[i] = {};
  }
}

void WeightStore::prepare(Preparation preparation, KernelLibrary& library) {
  if (is_made(preparation)) return;
  const Program program = compile_program(std::move(preparation.program), device_->caps(), library);
  const auto chunks = allocate_chunks(*device_, program.memory);
  std::map<const Storage*, View> places;
  std::vector<std::pair<std::string, View>> fresh;
  const auto place = [&](const Storage& storage) -> Operand {
    if (storage.kind == StorageKind::kArena) return arena_view(storage, chunks);
    if (const auto found = places.find(&storage); found != places.end()) return found->second;
    View view;
    if (storage.kind == StorageKind::kOutput) {
      bytes_ += storage.size_bytes;
      view = allocate(storage.size_bytes, arena_);
      fresh.emplace_back(storage.key, view);
    } else if (has(storage.key)) {
      view = get(storage.key);
    } else if (storage.data) {
      view = sent(storage);
    } else {
      throw_invalid("'" + storage.name + "' is needed to prepare a weight but is no constant");
    }
    return places[&storage] = view;
  };
  CommandList commands;
  add_commands(commands, program, place);
  // Outputs without elements have no commands, but must exist.
  for (const Storage& storage : program.lowered.storages) {
    const auto& keys = preparation.keys;
    const bool made_here = std::find(keys.begin(), keys.end(), storage.key) != keys.end();
    if (storage.kind == StorageKind::kOutput && made_here) place(storage);
  }
  pending_.insert(pending_.end(), chunks.begin(), chunks.end());
  for (const uint64_t bytes : program.memory.chunk_bytes) pending_bytes_ += bytes;
  if (!commands.commands().empty()) last_ = queue_->submit(device_->record(commands));
  // Only now: what failed on the way was not made.
  for (auto& [key, view] : fresh) weights_[key] = std::move(view);
  if (pending_bytes_ > kMaxPendingBytes) flush();
}

void WeightStore::flush() {
  queue_->wait(last_);
  pending_.clear();
  sent_.clear();
  sent_arena_.reset();
  pending_bytes_ = 0;
}

}  // namespace dlk
