#include "core/runtime/session.h"

namespace dlk {

namespace {

class RunImpl : public Run {
 public:
  RunImpl(std::shared_ptr<SessionCore> core, Submission submission)
      : core_(std::move(core)), submission_(std::move(submission)) {}

  void wait() override { core_->wait(submission_.ticket); }
  bool is_done() override { return core_->is_done(submission_.ticket); }
  void on_complete(std::function<void(std::exception_ptr)> callback) override {
    core_->on_complete(submission_.ticket, std::move(callback));
  }
  DeviceTensor output(const std::string& name) override {
    const size_t i = index_of(name);
    const PlanTensor& tensor = submission_.plan->outputs()[i];
    return {core_->model()->device(), submission_.outputs[i], tensor.dtype, tensor.shape};
  }
  HostTensor read(const std::string& name) override {
    const size_t i = index_of(name);
    wait();
    return core_->read(submission_.outputs[i], submission_.plan->outputs()[i]);
  }

 private:
  size_t index_of(const std::string& name) const {
    const auto& outputs = submission_.plan->outputs();
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].name == name) return i;
    }
    throw_invalid("the model has no output '" + name + "'");
  }

  std::shared_ptr<SessionCore> core_;
  Submission submission_;
};

}  // namespace

std::shared_ptr<Run> make_run(std::shared_ptr<SessionCore> core, Submission submission) {
  return std::make_shared<RunImpl>(std::move(core), std::move(submission));
}

}  // namespace dlk
