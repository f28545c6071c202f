#include "core/runtime/session.h"

namespace dlk {

namespace {

class RunImpl : public Run {
 public:
  RunImpl(std::shared_ptr<SessionCore> core, StagedRun run)
      : core_(std::move(core)), run_(std::move(run)) {}

  void wait() override { core_->wait(run_.ticket); }
  bool is_done() override { return core_->is_done(run_.ticket); }
  void on_complete(std::function<void(std::exception_ptr)> callback) override {
    core_->on_complete(run_.ticket, std::move(callback));
  }
  DeviceTensor output(const std::string& name) override {
    const RunInput& value = output_of(name);
    if (const auto* tensor = std::get_if<DeviceTensor>(&value)) return *tensor;
    throw_unsupported("output '" + name + "' is no tensor on the device");
  }
  HostTensor read(const std::string& name) override {
    HostValue value = read_value(name);
    if (auto* tensor = std::get_if<HostTensor>(&value)) return std::move(*tensor);
    throw_unsupported("output '" + name + "' is no tensor; use read_value");
  }
  HostValue read_value(const std::string& name) override {
    const RunInput& value = output_of(name);
    wait();
    return core_->read(value);
  }

 private:
  const RunInput& output_of(const std::string& name) const {
    const auto names = core_->model()->outputs();
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == name) return run_.outputs.at(i);
    }
    throw_invalid("the model has no output '" + name + "'");
  }

  std::shared_ptr<SessionCore> core_;
  StagedRun run_;
};

}  // namespace

std::shared_ptr<Run> make_run(std::shared_ptr<SessionCore> core, StagedRun run) {
  return std::make_shared<RunImpl>(std::move(core), std::move(run));
}

}  // namespace dlk
