#include "core/device/checked.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <string_view>
#include <unordered_set>

#include "core/device/hazards.h"

namespace dlk {

namespace {

std::string text(uint64_t n) { return std::to_string(n); }

/// The objects of one device that are still alive. Outlives the device when they do.
class LiveSet {
 public:
  bool contains(const void* object) const {
    const std::lock_guard lock(mutex_);
    return objects_.contains(object);
  }
  void insert(const void* object) {
    const std::lock_guard lock(mutex_);
    objects_.insert(object);
  }
  void erase(const void* object) {
    const std::lock_guard lock(mutex_);
    objects_.erase(object);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_set<const void*> objects_;
};

/// The same object, known to `live` until its last user lets go.
template <typename T>
std::shared_ptr<T> tracked(std::shared_ptr<T> object, const std::shared_ptr<LiveSet>& live) {
  T* raw = object.get();
  live->insert(raw);
  return std::shared_ptr<T>(raw, [object = std::move(object), live](T* gone) mutable {
    live->erase(gone);
    object.reset();
  });
}

void check_view(const View& view, const LiveSet& live, const std::string& who) {
  if (!view.buffer) throw_invalid(who + " has no buffer");
  if (!live.contains(view.buffer.get())) {
    throw_invalid(who + " is a buffer that this device did not allocate");
  }
  const uint64_t size = view.buffer->size_bytes();
  if (view.offset_bytes > size || view.size_bytes > size - view.offset_bytes) {
    throw_invalid(who + " is out of bounds: bytes " + text(view.offset_bytes) + " + " +
                  text(view.size_bytes) + " of a buffer of " + text(size));
  }
}

bool overlap(const RangeUse& a, const RangeUse& b) {
  return a.resource == b.resource && a.begin < b.end && b.begin < a.end;
}

/// Byte ranges of one buffer that a recording uses through views, merged.
class RangeSet {
 public:
  void add(uint64_t begin, uint64_t end) { ranges_.emplace_back(begin, end); }
  void merge() {
    std::sort(ranges_.begin(), ranges_.end());
    std::vector<std::pair<uint64_t, uint64_t>> merged;
    for (const auto& range : ranges_) {
      if (!merged.empty() && range.first <= merged.back().second) {
        merged.back().second = std::max(merged.back().second, range.second);
      } else {
        merged.push_back(range);
      }
    }
    ranges_ = std::move(merged);
  }
  bool intersects(uint64_t begin, uint64_t end) const {
    const auto next = std::partition_point(ranges_.begin(), ranges_.end(),
                                           [&](const auto& r) { return r.second <= begin; });
    return next != ranges_.end() && next->first < end;
  }

 private:
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
};

struct SlotInfo {
  uint64_t size_bytes = 0;
  uint64_t alignment = 1;
  bool used = false;
  bool written = false;
  std::string label;  // of the first command that uses it
};

class CheckedRecording : public Recording {
 public:
  std::shared_ptr<Recording> inner;
  std::shared_ptr<LiveSet> owner;
  bool profiled = false;
  std::vector<SlotInfo> slots;
  std::map<const Buffer*, RangeSet> used, written;

  void check_slots(std::span<const View> views) const;
};

void CheckedRecording::check_slots(std::span<const View> views) const {
  if (views.size() != slots.size()) {
    throw_invalid("submit: the recording has " + text(slots.size()) + " slots, " +
                  text(views.size()) + " views were given");
  }
  const auto hits = [](const std::map<const Buffer*, RangeSet>& sets, const View& view) {
    const auto found = sets.find(view.buffer.get());
    return found != sets.end() &&
           found->second.intersects(view.offset_bytes, view.offset_bytes + view.size_bytes);
  };
  for (size_t i = 0; i < views.size(); ++i) {
    const SlotInfo& slot = slots[i];
    const std::string who = "submit: slot " + text(i) +
                            (slot.label.empty() ? "" : " (first used by '" + slot.label + "')");
    check_view(views[i], *owner, who);
    if (views[i].size_bytes < slot.size_bytes) {
      throw_invalid(who + " needs " + text(slot.size_bytes) + " bytes, the view has " +
                    text(views[i].size_bytes));
    }
    if (views[i].offset_bytes % slot.alignment != 0) {
      throw_invalid(who + " needs an offset that is a multiple of " + text(slot.alignment) +
                    " bytes, not " + text(views[i].offset_bytes));
    }
    if (slot.used && hits(slot.written ? used : written, views[i])) {
      throw_invalid(who + " overlaps memory that the recording itself uses");
    }
    for (size_t j = 0; j < i; ++j) {
      const bool shared = slot.used && slots[j].used && (slot.written || slots[j].written);
      if (shared && views[i].buffer == views[j].buffer &&
          views[i].offset_bytes < views[j].offset_bytes + views[j].size_bytes &&
          views[j].offset_bytes < views[i].offset_bytes + views[i].size_bytes) {
        throw_invalid(who + " overlaps slot " + text(j) + " and one of them is written");
      }
    }
  }
}

class CheckedQueue : public Queue {
 public:
  CheckedQueue(std::unique_ptr<Queue> inner, std::shared_ptr<LiveSet> live)
      : inner_(std::move(inner)), live_(std::move(live)) {}

  Ticket submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) override {
    const auto checked = std::dynamic_pointer_cast<CheckedRecording>(recording);
    if (!checked || checked->owner != live_) {
      throw_invalid("submit: not a recording of this device");
    }
    checked->check_slots(slots);
    return issued(inner_->submit(checked->inner, slots));
  }
  Ticket write(const View& destination, std::span<const std::byte> source) override {
    check_transfer(destination, source.size(), "write");
    return source.empty() ? Ticket{last_} : issued(inner_->write(destination, source));
  }
  Ticket read(const View& source, std::span<std::byte> destination) override {
    check_transfer(source, destination.size(), "read");
    return destination.empty() ? Ticket{last_} : issued(inner_->read(source, destination));
  }
  void wait(Ticket ticket) override {
    check_ticket(ticket, "wait");
    inner_->wait(ticket);
  }
  bool is_done(Ticket ticket) override {
    check_ticket(ticket, "is_done");
    return inner_->is_done(ticket);
  }
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) override {
    check_ticket(ticket, "on_complete");
    if (!callback) throw_invalid("on_complete: no callback");
    inner_->on_complete(ticket, std::move(callback));
  }
  std::vector<double> command_times_ns(Ticket ticket) override {
    check_ticket(ticket, "command_times_ns");
    return inner_->command_times_ns(ticket);
  }
  void hold(bool on) override { inner_->hold(on); }

 private:
  Ticket issued(Ticket ticket) {
    last_ = std::max(last_, ticket.value);
    return ticket;
  }
  void check_ticket(Ticket ticket, const char* call) const {
    if (ticket.value > last_) {
      throw_invalid(std::string(call) + ": ticket " + text(ticket.value) +
                    " is not of this queue, whose last one is " + text(last_));
    }
  }
  void check_transfer(const View& view, uint64_t size_bytes, const std::string& call) const {
    check_view(view, *live_, call);
    if (view.size_bytes != size_bytes) {
      throw_invalid(call + ": the view has " + text(view.size_bytes) + " bytes, the host memory " +
                    text(size_bytes));
    }
  }

  std::unique_ptr<Queue> inner_;
  std::shared_ptr<LiveSet> live_;
  uint64_t last_ = 0;
};

/// Validates the commands of one list and gathers what submit must check.
class Recorder {
 public:
  Recorder(const CommandList& list, const Caps& caps, const LiveSet& live, CheckedRecording& out)
      : list_(list), caps_(caps), live_(live), out_(out) {
    out_.slots.resize(list.slot_bytes().size());
    for (size_t i = 0; i < out_.slots.size(); ++i) out_.slots[i].size_bytes = list.slot_bytes()[i];
  }

  void run() {
    for (size_t i = 0; i < list_.commands().size(); ++i) {
      const Command& command = list_.commands()[i];
      label_ = command.label;
      who_ = "command " + text(i) + " '" + command.label + "'";
      if (const auto* dispatch = std::get_if<DispatchCommand>(&command.op)) {
        check_dispatch(*dispatch);
      } else if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
        check_copy(*copy);
      } else {
        check_fill(std::get<FillCommand>(command.op));
      }
      note_uses(command);
    }
    for (auto& [buffer, ranges] : out_.used) ranges.merge();
    for (auto& [buffer, ranges] : out_.written) ranges.merge();
  }

 private:
  uint64_t check_operand(const Operand& operand, const std::string& name, uint64_t alignment) {
    const std::string who = who_ + ": " + name;
    uint64_t offset = 0, size = 0;
    if (const auto* view = std::get_if<View>(&operand)) {
      check_view(*view, live_, who);
      offset = view->offset_bytes;
      size = view->size_bytes;
    } else {
      const auto& ref = std::get<SlotRef>(operand);
      if (ref.slot >= out_.slots.size()) {
        throw_invalid(who + " names slot " + text(ref.slot) + " of " + text(out_.slots.size()));
      }
      SlotInfo& slot = out_.slots[ref.slot];
      offset = ref.offset_bytes;
      size = ref.size_bytes;
      if (offset > slot.size_bytes || size > slot.size_bytes - offset) {
        throw_invalid(who + " is out of bounds: bytes " + text(offset) + " + " + text(size) +
                      " of slot " + text(ref.slot) + " with " + text(slot.size_bytes));
      }
      slot.alignment = std::max(slot.alignment, alignment);
    }
    if (size == 0) throw_invalid(who + " is empty: leave out commands that do nothing");
    if (offset % alignment != 0) {
      throw_invalid(who + " starts at byte " + text(offset) + ", which is not a multiple of " +
                    text(alignment));
    }
    return size;
  }

  void check_dispatch(const DispatchCommand& dispatch) {
    if (!live_.contains(dispatch.kernel.get())) {
      throw_invalid(who_ + ": its kernel was not compiled by this device");
    }
    const KernelCode& info = dispatch.kernel->info();
    if (dispatch.operands.size() != info.bindings.size()) {
      throw_invalid(who_ + ": kernel '" + info.name + "' takes " + text(info.bindings.size()) +
                    " buffers, " + text(dispatch.operands.size()) + " were given");
    }
    if (dispatch.params.size() != info.param_bytes) {
      throw_invalid(who_ + ": kernel '" + info.name + "' takes " + text(info.param_bytes) +
                    " bytes of parameters, " + text(dispatch.params.size()) + " were given");
    }
    for (int axis = 0; axis < 3; ++axis) {
      if (dispatch.groups[axis] < 1 || dispatch.groups[axis] > caps_.max_group_count[axis]) {
        throw_invalid(who_ + ": " + text(dispatch.groups[axis]) + " groups on axis " + text(axis) +
                      "; the device takes 1 to " + text(caps_.max_group_count[axis]));
      }
    }
    for (size_t i = 0; i < info.bindings.size(); ++i) {
      const BindingInfo& binding = info.bindings[i];
      const std::string name = "operand '" + binding.name + "'";
      const uint64_t size =
          check_operand(dispatch.operands[i], name, std::max(1u, binding.element_bytes));
      if (size > caps_.max_binding_bytes) {
        throw_invalid(who_ + ": " + name + " has " + text(size) + " bytes; one kernel argument " +
                      "reaches at most " + text(caps_.max_binding_bytes));
      }
    }
  }

  void check_copy(const CopyCommand& copy) {
    const uint64_t from = check_operand(copy.source, "source", 1);
    const uint64_t to = check_operand(copy.destination, "destination", 1);
    if (from != to) {
      throw_invalid(who_ + ": copies " + text(from) + " bytes to " + text(to));
    }
  }

  void check_fill(const FillCommand& fill) {
    const uint64_t size = check_operand(fill.destination, "destination", 4);
    if (size % 4 != 0) {
      throw_invalid(who_ + ": fills " + text(size) + " bytes, which is not a multiple of 4");
    }
  }

  void note_uses(const Command& command) {
    const auto uses = command_uses(command);
    const bool dispatch = std::holds_alternative<DispatchCommand>(command.op);
    for (size_t i = 0; i < uses.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const bool written = uses[i].access != Access::kRead || uses[j].access != Access::kRead;
        const bool one_reads =
            (uses[i].access == Access::kRead) != (uses[j].access == Access::kRead);
        const bool in_place =
            dispatch && one_reads && uses[i].begin == uses[j].begin && uses[i].end == uses[j].end;
        if (written && !in_place && overlap(uses[i], uses[j])) {
          throw_invalid(who_ + ": operands " + text(j) + " and " + text(i) +
                        " overlap and one of them is written");
        }
      }
      note_operand(operand_of(command, i), uses[i].access != Access::kRead);
    }
  }

  static const Operand& operand_of(const Command& command, size_t index) {
    if (const auto* dispatch = std::get_if<DispatchCommand>(&command.op)) {
      return dispatch->operands[index];
    }
    if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
      return index == 0 ? copy->source : copy->destination;
    }
    return std::get<FillCommand>(command.op).destination;
  }

  void note_operand(const Operand& operand, bool written) {
    if (const auto* view = std::get_if<View>(&operand)) {
      const uint64_t end = view->offset_bytes + view->size_bytes;
      out_.used[view->buffer.get()].add(view->offset_bytes, end);
      if (written) out_.written[view->buffer.get()].add(view->offset_bytes, end);
      return;
    }
    SlotInfo& slot = out_.slots[std::get<SlotRef>(operand).slot];
    if (!slot.used) slot.label = label_;
    slot.used = true;
    slot.written |= written;
  }

  const CommandList& list_;
  const Caps& caps_;
  const LiveSet& live_;
  CheckedRecording& out_;
  std::string label_, who_;
};

class CheckedDevice : public Device {
 public:
  explicit CheckedDevice(std::shared_ptr<Device> inner)
      : inner_(std::move(inner)), live_(std::make_shared<LiveSet>()), caps_(inner_->caps()) {
    hide_features();
    const char* shapes = std::getenv("DLK_KERNEL_SHAPES");
    if (shapes == nullptr || std::string_view(shapes) != "gpu") return;
    caps_.is_cpu = false;
    caps_.vector_width = std::min(caps_.vector_width, 4u);
  }

  const Caps& caps() const noexcept override { return caps_; }

  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override {
    if (size_bytes == 0) throw_invalid("allocate: 0 bytes");
    if (size_bytes > caps().max_buffer_bytes) {
      throw Error(ErrorCode::kOutOfMemory,
                  "cannot allocate " + text(size_bytes) + " bytes: one buffer of " + caps().id +
                      " (" + caps().name + ") has at most " + text(caps().max_buffer_bytes));
    }
    return tracked(inner_->allocate(size_bytes, kind), live_);
  }

  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override {
    if (!data || size_bytes == 0) throw_invalid("adopt: no memory");
    if (!caps().host_import) {
      throw_unsupported(caps().id + " cannot use host memory in place (host_import)");
    }
    return tracked(inner_->adopt(data, size_bytes, std::move(owner)), live_);
  }

  std::shared_ptr<Kernel> compile(KernelCode code) override {
    check_code(code);
    return tracked(inner_->compile(std::move(code)), live_);
  }

  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override {
    auto recording = std::make_shared<CheckedRecording>();
    recording->owner = live_;
    Recorder(commands, caps(), *live_, *recording).run();
    if (profile && !caps().timestamps) {
      throw_unsupported(caps().id + " cannot time commands (timestamps)");
    }
    recording->inner = inner_->record(commands, profile);
    return recording;
  }

  std::unique_ptr<Queue> create_queue() override {
    return std::make_unique<CheckedQueue>(inner_->create_queue(), live_);
  }

 private:
  void hide_features() {
    const char* setting = std::getenv("DLK_HIDE_CAPS");
    std::string_view names = setting ? setting : "";
    while (!names.empty()) {
      const std::string_view name = names.substr(0, names.find(','));
      names.remove_prefix(std::min(name.size() + 1, names.size()));
      if (!clear_flag(caps_, name)) {
        throw_invalid("DLK_HIDE_CAPS: there is no feature '" + std::string(name) + "'");
      }
    }
  }

  std::string driver_cache_of(std::span<const KernelCode> codes) override {
    for (const KernelCode& code : codes) check_code(code);
    return inner_->driver_cache_of(codes);
  }
  void add_driver_cache(std::string_view cache) override { inner_->add_driver_cache(cache); }

  void check_code(const KernelCode& code) const {
    const std::string who = "kernel '" + code.name + "'";
    if (code.name.empty()) throw_invalid("compile: the kernel has no name");
    uint64_t items = 1;
    for (int axis = 0; axis < 3; ++axis) {
      const uint32_t size = code.group_size[axis];
      if (size < 1 || size > caps().max_group_size[axis]) {
        throw_invalid(who + ": group size " + text(size) + " on axis " + text(axis) +
                      "; the device takes 1 to " + text(caps().max_group_size[axis]));
      }
      items *= size;
    }
    if (items > caps().max_group_invocations) {
      throw_invalid(who + ": " + text(items) + " work-items in a group; the device takes at most " +
                    text(caps().max_group_invocations));
    }
    // NVIDIA's OpenCL names less than its kernels may have.
    const bool ptx = caps().inline_ptx || code.format == KernelFormat::kPtx ||
                     code.format == KernelFormat::kBinary;
    if (code.local_bytes > (ptx ? kMostPtxLocalBytes : caps().local_memory_bytes)) {
      throw_invalid(who + ": " + text(code.local_bytes) +
                    " bytes of local memory; the device has " + text(caps().local_memory_bytes));
    }
    if (code.bindings.size() > caps().max_bindings) {
      throw_invalid(who + ": " + text(code.bindings.size()) +
                    " buffers; the device binds at most " + text(caps().max_bindings));
    }
    for (const ParamInfo& param : code.params) {
      if (param.offset_bytes % 4 != 0 || param.offset_bytes > code.param_bytes ||
          param.count > (code.param_bytes - param.offset_bytes) / 4) {
        throw_invalid(who + ": parameter '" + param.name + "' lies outside the block of " +
                      text(code.param_bytes) + " bytes");
      }
    }
  }

  std::shared_ptr<Device> inner_;
  std::shared_ptr<LiveSet> live_;
  Caps caps_;
};

}  // namespace

std::shared_ptr<Device> checked_device(std::shared_ptr<Device> device) {
  if (!device) throw_invalid("checked_device: no device");
  return std::make_shared<CheckedDevice>(std::move(device));
}

}  // namespace dlk
