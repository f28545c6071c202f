// Kernels that start from machine code and get the driver's own program of the same PTX later: what
// the driver is given and when, and that sessions change over once all of a plan's are there.
#include <cstdlib>
#include <future>

#include "core/kernel/background_kernels.h"
#include "tests/cpp/engine_testing.h"
#include "tests/cpp/ptx_device.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using testing::PtxBackend, testing::PtxDevice, testing::PtxKernel, testing::request;

namespace {

DLK_REGISTER_BACKEND(PtxBackend)

/// Stands for Vulkan: it runs PTX and hands out none. Compiles PTX when `go` is set.
class VulkanLike : public PtxDevice {
 public:
  VulkanLike() {
    const Caps own = caps_;
    caps_ = host_->caps();
    caps_.id = own.id, caps_.backend = own.backend, caps_.name = own.name;
    caps_.is_cpu = caps_.unified_memory = caps_.host_import = false;
    take_ptx_only();
  }
  std::shared_ptr<Buffer> allocate(uint64_t bytes, MemoryKind kind) override {
    return host_->allocate(bytes, kind);
  }
  std::unique_ptr<Queue> create_queue() override { return host_->create_queue(); }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    if (code.code.starts_with(".version")) go_.wait();
    return PtxDevice::compile(std::move(code));
  }
  std::shared_ptr<Recording> record(const CommandList& list, bool profile) override {
    std::string kinds;
    for (const Command& command : list.commands()) {
      const auto* dispatch = std::get_if<DispatchCommand>(&command.op);
      if (dispatch == nullptr) continue;
      kinds += dispatch->kernel->info().code.starts_with("CUBIN") ? 'm' : 'p';
    }
    if (!kinds.empty()) recorded.push_back(kinds);
    return host_->record(list, profile);
  }

  void wait_for(std::shared_future<void> go) { go_ = std::move(go); }
  std::vector<std::string> recorded;

 private:
  static std::shared_future<void> now() {
    std::promise<void> done;
    done.set_value();
    return done.get_future().share();
  }
  std::shared_ptr<Device> host_ = open_device("null", false);
  std::shared_future<void> go_ = now();
};

using Taken = std::vector<std::string>;

/// With PTX in the cache, as a start without machine code leaves it.
struct Setting : testing::TemporaryFolder {
  Setting() {
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
    setenv("DLK_LOG", "0", 1);
    setenv("DLK_CUBIN_LIBRARY", DLK_FAKE_CUDA, 1);
    setenv("DLK_MATRIX_UNITS", "plain", 1);
    setenv("DLK_CUBIN", "0", 1);
  }
  ~Setting() { unsetenv("DLK_CUBIN"); }
  void fill(const Graph& graph, const RunInputs& inputs) {
    Model::create(graph, std::make_shared<VulkanLike>())->create_session()->run(inputs);
    unsetenv("DLK_CUBIN");
  }
  void fill() {
    KernelLibrary::of(std::make_shared<VulkanLike>())->get(request());
    unsetenv("DLK_CUBIN");
  }
};

/// Two kernels.
Graph sums_and_softmax() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, testing::static_shape({4, 8}));
  const ValueId y = graph.add_node("Softmax", {x}, {{"axis", int64_t{1}}})[0];
  graph.add_output(
      graph.add_node("CumSum", {y, graph.add_constant(
                                       "axis", HostTensor::from_ints(DType::kInt64, {}, {0}))})[0],
      "y");
  return graph;
}

}  // namespace

TEST_CASE("a kernel starts from machine code and is compiled once it is settled") {
  Setting setting;
  setting.fill();
  const auto device = std::make_shared<VulkanLike>();
  const auto library = KernelLibrary::of(device);
  const std::shared_ptr<Kernel> first = library->get(request());
  library->finish_background();  // nothing is under way
  CHECK(device->taken == Taken{"machine code"});
  CHECK(library->best(first) == first);
  CHECK(library->replaced() == 0);
  const std::vector<std::shared_ptr<Kernel>> kernels{first, nullptr};
  CHECK_FALSE(library->settle(kernels));
  library->finish_background();
  CHECK(library->settle(kernels));
  CHECK(library->replaced() == 1);
  CHECK(device->taken == Taken{"machine code", "ptx"});
  CHECK(library->best(first) != first);
  CHECK(library->get(request()) == library->best(first));
}

TEST_CASE("the next process needs no CUDA library") {
  Setting setting;
  setting.fill();
  const auto start = [] {
    const auto device = std::make_shared<VulkanLike>();
    KernelLibrary::of(device)->get(request());
    return device->taken;
  };
  CHECK(start() == Taken{"machine code"});
  setenv("DLK_CUBIN_LIBRARY", "/nowhere/libcuda.so.1", 1);
  CHECK(start() == Taken{"machine code"});
  setenv("DLK_CUBIN", "0", 1);
  CHECK(start() == Taken{"ptx"});
}

TEST_CASE("DLK_CUBIN=1 keeps machine code") {
  Setting setting;
  setting.fill();
  setenv("DLK_CUBIN", "1", 1);
  const auto device = std::make_shared<VulkanLike>();
  const auto library = KernelLibrary::of(device);
  const std::vector<std::shared_ptr<Kernel>> kernels{library->get(request())};
  CHECK(library->settle(kernels));
  CHECK(device->taken == Taken{"machine code"});
}

TEST_CASE("a driver that refuses the PTX leaves the machine code") {
  Setting setting;
  setting.fill();
  const auto device = std::make_shared<VulkanLike>();
  device->refuses_ptx = true;
  const auto library = KernelLibrary::of(device);
  const std::vector<std::shared_ptr<Kernel>> kernels{library->get(request())};
  CHECK_FALSE(library->settle(kernels));
  library->finish_background();
  CHECK(library->settle(kernels));
  CHECK(library->best(kernels[0]) == kernels[0]);
}

TEST_CASE("sessions change over once all kernels are there, each recording once") {
  if (!find_backend("null")) return;
  Setting setting;
  const RunInputs inputs{{"x", testing::noise({4, 8})}};
  setting.fill(sums_and_softmax(), inputs);
  const auto device = std::make_shared<VulkanLike>();
  std::promise<void> go;
  device->wait_for(go.get_future().share());
  const auto model = Model::create(sums_and_softmax(), device);
  const auto session = model->create_session();
  for (int run = 0; run < 4; ++run) session->run(inputs);
  CHECK(device->recorded == Taken{"mm", "mm"});  // two activation sets
  go.set_value();
  KernelLibrary::of(device)->finish_background();
  for (int run = 0; run < 4; ++run) session->run(inputs);
  CHECK(device->recorded == Taken{"mm", "mm", "pp", "pp"});
  CHECK(device->taken == Taken{"machine code", "machine code", "ptx", "ptx"});
}

TEST_CASE("nothing is compiled in the background while others compile") {
  std::atomic<int> compiled = 0;
  BackgroundKernels background([&](KernelCode code) {
    ++compiled;
    return std::make_shared<PtxKernel>(std::move(code), "");
  });
  const std::vector<std::shared_ptr<Kernel>> kernels{std::make_shared<PtxKernel>(KernelCode{}, "")};
  background.add(kernels[0], KernelCode{});
  {
    const BackgroundKernels::Hold hold(background);
    CHECK_FALSE(background.settle(kernels));
    CHECK_FALSE(background.settle(kernels));
    CHECK(compiled == 0);
  }
  background.finish();
  CHECK(compiled == 1);
  CHECK(background.settle(kernels));
}

TEST_CASE("a library goes while its kernels wait") {
  std::promise<void> started;
  std::atomic<int> compiled = 0;
  {
    BackgroundKernels background([&](KernelCode code) {
      if (compiled++ == 0) started.set_value();
      return std::make_shared<PtxKernel>(std::move(code), "");
    });
    std::vector<std::shared_ptr<Kernel>> kernels;
    for (int i = 0; i < 1000; ++i) {
      kernels.push_back(std::make_shared<PtxKernel>(KernelCode{}, ""));
      background.add(kernels.back(), KernelCode{});
    }
    CHECK_FALSE(background.settle(kernels));
    started.get_future().wait();
  }
  CHECK(compiled >= 1);
}
