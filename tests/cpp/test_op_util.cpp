#include "core/ops/op_util.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

TensorView view_of(const Shape& shape, DType dtype = DType::kFloat32) {
  TensorView view;
  view.dtype = dtype;
  view.shape = shape;
  view.strides = contiguous_strides(shape);
  return view;
}

/// A device that says it has no 64-bit integers, as many phones do.
class Without64Bit : public Device {
 public:
  explicit Without64Bit(std::shared_ptr<Device> inner)
      : inner_(std::move(inner)), caps_(inner_->caps()) {
    caps_.int64 = false;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override {
    return inner_->allocate(size_bytes, kind);
  }
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override {
    return inner_->adopt(data, size_bytes, std::move(owner));
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    return inner_->compile(std::move(code));
  }
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override {
    return inner_->record(commands, profile);
  }
  std::unique_ptr<Queue> create_queue() override { return inner_->create_queue(); }

 private:
  std::shared_ptr<Device> inner_;
  Caps caps_;
};

/// One operator over an int64 run input and constants.
std::vector<int64_t> run_int64(const std::shared_ptr<Device>& device, const std::string& op,
                               const HostTensor& x, const std::vector<HostTensor>& constants,
                               Attributes attributes = {}, int outputs = 1) {
  Graph graph;
  std::vector<ValueId> inputs{graph.add_input("x", x.dtype, static_shape(x.shape))};
  for (size_t i = 0; i < constants.size(); ++i) {
    inputs.push_back(graph.add_constant("c" + std::to_string(i), constants[i]));
  }
  const auto results = graph.add_node(op, inputs, std::move(attributes), outputs);
  graph.add_output(results.back(), "y");
  return Model::create(graph, device)->create_session()->run({{"x", x}}).at("y").to_ints();
}

}  // namespace

TEST_CASE("loops collapse where every view walks them as one") {
  const Shape dims{2, 3, 4, 5};
  const Shape dense = contiguous_strides(dims);
  CHECK(collapse(dims, {dense}).dims == Shape{120});
  // Channels-last: (N, H, W) merge once the channel is innermost.
  const Shape last{60, 1, 15, 3};
  CHECK(collapse(dims, {last}, {}, true).dims == Shape{120});
  const LoopNest both = collapse(dims, {last, dense}, {}, true);
  CHECK(both.dims == Shape{2, 20, 3});
  CHECK(both.strides[1] == Shape{60, 1, 20});
  // Groups stay apart; a negative group is left alone even with one element.
  CHECK(collapse({2, 1, 3}, {{3, 3, 1}}, {0, -2, 0}).dims == Shape{2, 1, 3});
  CHECK(collapse({2, 1, 3}, {{3, 3, 1}}).dims == Shape{6});
  CHECK(collapse({}, {Shape{}}).dims == Shape{1});
  const LoopNest split = collapse({2, 3, 4}, {{12, 4, 1}}, {0, 1, 1});
  CHECK(split.of_group(1).dims == Shape{12});
  CHECK(split.of_group(5).dims == Shape{1});
}

TEST_CASE("views keep their elements") {
  const TensorView view = view_of({4, 6});
  const TensorView sliced = slice_view(view, 1, 1, 2, 3);
  CHECK(sliced.shape == Shape{4, 2});
  CHECK(sliced.offset == 1);
  CHECK(sliced.strides == Shape{6, 3});
  CHECK(slice_view(view, 0, 4, 0).offset == 0);
  CHECK(split_axis(view, 1, {2, 3}).strides == Shape{6, 3, 1});
  CHECK(broadcast_view(view_of({1, 6}), {3, 4, 6}).strides == Shape{0, 0, 1});
  CHECK(strided_indices({2, 2}, 1, {4, -1}) == std::vector<int64_t>{1, 0, 5, 4});
}

TEST_CASE("8-byte elements become words where the device has no 64-bit integers") {
  Caps caps;
  caps.int64 = false;
  const TensorView words = raw_view(view_of({2, 3}, DType::kInt64), caps);
  CHECK(words.dtype == DType::kUInt32);
  CHECK(words.shape == Shape{2, 3, 2});
  CHECK(words.strides == Shape{6, 2, 1});
  caps.int64 = true;
  CHECK(raw_view(view_of({2}, DType::kFloat64), caps).dtype == DType::kUInt64);
  CHECK(raw_view(view_of({2}, DType::kBool), caps).dtype == DType::kUInt8);
}

TEST_CASE("int64 tensors move and are indexed without 64-bit integers") {
  const int64_t big = int64_t{5} << 33;
  const HostTensor x =
      HostTensor::from_ints(DType::kInt64, {2, 3}, {big + 1, -2, big + 3, -big - 4, 5, big + 6});
  for (const auto& inner : test_devices()) {
    CAPTURE(inner->caps().id);
    const auto device = std::make_shared<Without64Bit>(inner);
    const auto ints = [](const std::vector<int64_t>& v) { return HostTensor::ints(v); };
    CHECK(run_int64(device, "Gather", x, {ints({2, 0})}, {{"axis", int64_t{1}}}) ==
          std::vector<int64_t>{big + 3, big + 1, big + 6, -big - 4});
    CHECK(run_int64(device, "Slice", x, {ints({-1}), ints({-9}), ints({1}), ints({-2})}) ==
          std::vector<int64_t>{big + 3, big + 1, big + 6, -big - 4});
    CHECK(run_int64(device, "Pad", x,
                    {ints({0, 1, 0, 0}), HostTensor::from_ints(DType::kInt64, {}, {-big})}) ==
          std::vector<int64_t>{-big, big + 1, -2, big + 3, -big, -big - 4, 5, big + 6});
    CHECK(run_int64(device, "Trilu", x, {}) ==
          std::vector<int64_t>{big + 1, -2, big + 3, 0, 5, big + 6});
    const HostTensor scores = floats({2, 3}, {1, 3, 2, 9, 7, 8});
    CHECK(run_int64(device, "ArgMax", scores, {}, {{"axis", int64_t{1}}}) ==
          std::vector<int64_t>{1, 0});
    CHECK(run_int64(device, "TopK", scores, {ints({2})}, {}, 2) ==
          std::vector<int64_t>{1, 2, 0, 2});
    CHECK_THROWS_WITH_AS(run_int64(device, "ReduceSum", x, {}), doctest::Contains("Caps::int64"),
                         Error);
  }
}
