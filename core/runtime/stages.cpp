#include "core/runtime/stages.h"

#include <algorithm>

namespace dlk {

namespace {

/// Stages that are kept for inputs that come again; the least recently used one goes first.
constexpr size_t kMaxStages = 64;

}  // namespace

bool same_bytes(const HostTensor& a, const HostTensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.bytes(), b.bytes());
}

DType tensor_dtype(const RunTensor& tensor) {
  return std::visit([](const auto& t) { return t.dtype; }, tensor);
}

const Shape& tensor_shape(const RunTensor& tensor) {
  return std::visit([](const auto& t) -> const Shape& { return t.shape; }, tensor);
}

RunTensor as_tensor(const RunInput& input) {
  if (const auto* host = std::get_if<HostTensor>(&input)) return *host;
  if (const auto* device = std::get_if<DeviceTensor>(&input)) return *device;
  throw_invalid("a tensor was expected, not a sequence or an absent optional");
}

RunInput as_input(RunTensor tensor) {
  return std::visit([](auto&& t) -> RunInput { return std::forward<decltype(t)>(t); },
                    std::move(tensor));
}

InputForm form_of(const RunInput& input) {
  InputForm form;
  if (std::holds_alternative<Absent>(input)) {
    form.kind = InputForm::Kind::kNone;
  } else if (const auto* list = std::get_if<TensorList>(&input)) {
    form.kind = InputForm::Kind::kSequence;
    for (const RunTensor& item : list->items) {
      form.tensors.push_back({tensor_dtype(item), tensor_shape(item)});
    }
  } else {
    const RunTensor tensor = as_tensor(input);
    form.tensors.push_back({tensor_dtype(tensor), tensor_shape(tensor)});
  }
  return form;
}

StageInputs::StageInputs(const RunInputs& inputs, Reader reader) : reader_(std::move(reader)) {
  if (!reader_) reader_ = [](const DeviceTensor& tensor) { return tensor.read(); };
  for (const auto& [name, input] : inputs) {
    forms_[name] = form_of(input);
    if (const auto* list = std::get_if<TensorList>(&input)) {
      for (size_t i = 0; i < list->items.size(); ++i) {
        tensors_.emplace(element_name(name, i), list->items[i]);
      }
    } else if (!std::holds_alternative<Absent>(input)) {
      tensors_.emplace(name, as_tensor(input));
    }
  }
}

const HostTensor& StageInputs::host(const std::string& name) {
  const auto found = values_.find(name);
  if (found != values_.end()) return found->second;
  const RunTensor& tensor = tensors_.at(name);
  const auto* host = std::get_if<HostTensor>(&tensor);
  return values_[name] = host ? *host : reader_(std::get<DeviceTensor>(tensor));
}

std::shared_ptr<Stage> StageTree::find(StageInputs& inputs) {
  for (auto entry = stages_.begin(); entry != stages_.end(); ++entry) {
    if ((*entry)->forms != inputs.forms()) continue;
    const auto& used = (*entry)->plan->used_values();
    const bool fits = std::ranges::all_of(
        used, [&](const auto& u) { return same_bytes(u.second, inputs.host(u.first)); });
    if (!fits) continue;
    stages_.splice(stages_.begin(), stages_, entry);  // most recent first
    return stages_.front();
  }
  return nullptr;
}

std::shared_ptr<Stage> StageTree::add(const InputForms& forms, std::shared_ptr<const Plan> plan) {
  auto stage = std::make_shared<Stage>();
  stage->forms = forms;
  for (const LoopCall& loop : plan->special().loops) {
    stage->bodies.push_back(std::make_unique<StageTree>(loop.body));
  }
  if (plan->special().rest) stage->rest = std::make_unique<StageTree>(plan->special().rest);
  stage->plan = std::move(plan);
  stages_.push_front(std::move(stage));
  if (stages_.size() > kMaxStages) stages_.pop_back();
  return stages_.front();
}

}  // namespace dlk
