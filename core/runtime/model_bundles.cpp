// Which of a graph's bundles a model uses.
#include <cstdlib>
#include <string_view>

#include "core/base/log.h"
#include "core/base/phases.h"
#include "core/runtime/model_state.h"

namespace dlk {

namespace {

BundleUse use_of(const CompileOptions& options) {
  // Tests' plans are laid out in another way.
  if (options.guards || options.drop_barrier_for_test) return BundleUse::kNever;
  const char* setting = std::getenv("DLK_BUNDLE");
  const std::string_view asked = setting == nullptr ? "" : setting;
  if (asked == "0") return BundleUse::kNever;
  if (asked == "require") return BundleUse::kAlways;
  if (!asked.empty() && asked != "1") {
    throw_invalid("DLK_BUNDLE=" + std::string(asked) + ": use 0, 1 or require");
  }
  return options.bundle;
}

std::string_view text_of(const HostTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.data.get()), tensor.size_bytes()};
}

std::string text_of(const InputForms& forms) {
  std::string text;
  for (const auto& [name, form] : forms) {
    text += (text.empty() ? "'" : ", '") + name + "'";
    for (const InputForm::Tensor& tensor : form.tensors) {
      text += " " + std::string(dtype_name(tensor.dtype)) + shape_string(tensor.shape);
    }
  }
  return text;
}

}  // namespace

void ModelState::find_bundles() {
  const BundleUse use = use_of(options_);
  options_.bundle = use;
  if (use == BundleUse::kNever) return;
  const Phase phase("bundle/read");
  const BundleTarget here = BundleTarget::of(device_->caps(), options_);
  std::string reasons;
  for (const auto& bundle : graph_.bundles()) {
    const BundleTarget target = read_bundle_target(text_of(bundle->plan));
    std::string reason = why_not(target, true, here);
    if (reason.empty()) {
      FittingBundle fitting{bundle, read_bundle(text_of(bundle->plan)),
                            target.device == here.device};
      reason = why_not(target, fitting.contents.portable, here);
      if (reason.empty()) bundles_.push_back(std::move(fitting));
    }
    if (!reason.empty()) reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  if (!bundles_.empty()) return;
  if (use == BundleUse::kAlways) {
    throw_unsupported("the model has no bundle for " + device_->caps().id + ": " +
                      (reasons.empty() ? "it holds none (dlk convert --target)" : reasons));
  }
  if (!reasons.empty()) {
    log_once("the model's bundle is not used on " + device_->caps().id + ": " + reasons +
             "; its kernels are compiled here");
  }
}

std::shared_ptr<const Plan> ModelState::bundled_plan(StageInputs& inputs) {
  for (const FittingBundle& fitting : bundles_) {
    if (fitting.contents.forms != inputs.forms()) continue;
    bool same = true;
    for (const auto& [name, value] : fitting.contents.used_values) {
      same = same && same_bytes(value, inputs.host(name));
    }
    if (!same) continue;
    const Phase phase("bundle");
    auto plan = open_bundle(graph_, *fitting.bundle, fitting.contents, device_, fitting.same_driver,
                            weights_);
    bundled_ = true;
    return plan;
  }
  if (options_.bundle == BundleUse::kAlways) {
    throw_unsupported("no bundle of the model is for these inputs: " + text_of(inputs.forms()));
  }
  return nullptr;
}

}  // namespace dlk
