// What is tried out of matrix tiles before operators use them (core/kernel/matrix_units.h).
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cstdlib>

#include "core/kernel/matrix_units.h"
#include "tests/cpp/kernel_testing.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

/// A cache folder of the case's own: what tiles did in other processes is not known there.
struct CacheOfItsOwn : TemporaryFolder {
  CacheOfItsOwn() { setenv("DLK_CACHE_DIR", path.c_str(), 1); }
  ~CacheOfItsOwn() { unsetenv("DLK_CACHE_DIR"); }
};

}  // namespace

TEST_CASE("a tile that computes something else is not used") {
  const CacheOfItsOwn cache;
  setenv("DLK_KERNEL_SHAPES", "gpu", 1);
  const auto device = conformance::test_device("opencl");
  unsetenv("DLK_KERNEL_SHAPES");
  if (!device) return;
  MatrixUnits units(device, "plain");
  CHECK(units.works({32, 64, 32, 1, 1, 4, 4}));
  // Two steps ahead need three stages: what is multiplied was overwritten.
  CHECK_FALSE(units.works({32, 64, 32, 1, 2, 4, 4}));
  CHECK_FALSE(units.works({32, 64, 33, 1, 1, 4, 4}));
  CHECK(units.works({64, 64, 16, 2, 1, 4, 4}, MatrixUse::kFloats));
  for (const TileSharing sharing : {TileSharing::kSlices, TileSharing::kStream}) {
    CHECK(units.works({32, 64, 32, 1, 1, 4, 4}, MatrixUse::kHalves, sharing));
    CHECK_FALSE(units.works({32, 64, 32, 1, 2, 4, 4}, MatrixUse::kHalves, sharing));
    CHECK(units.works({64, 64, 16, 2, 1, 4, 4}, MatrixUse::kFloats, sharing));
  }
  CHECK(units.works({64, 64, 32, 1, 1, 4, 4}, MatrixUse::kBytes));
  CHECK(units.works({64, 64, 32, 1, 1, 8, 4}, MatrixUse::kByteImages));
  CHECK_FALSE(units.works({64, 64, 32, 1, 2, 8, 4}, MatrixUse::kByteImages));
  CHECK(units.works({64, 64, 32, 1, 1, 4, 4}, MatrixUse::kRight));
  CHECK(units.works({64, 64, 32, 1, 1, 4, 4}, MatrixUse::kBfloats));
  CHECK(units.works({64, 64, 32, 1, 1, 4, 4}, MatrixUse::kBfloatImages));
  CHECK_FALSE(units.works({32, 64, 32, 1, 2, 4, 4}, MatrixUse::kBfloatImages));
  CHECK(units.works({64, 64, 16, 2, 1, 4, 4}, MatrixUse::kTurned));
  CHECK_FALSE(units.works({64, 64, 16, 1, 2, 4, 4}, MatrixUse::kTurned));
}

TEST_CASE("a plan assumes tiles, which are tried before it runs, once for all processes") {
  const CacheOfItsOwn cache;
  setenv("DLK_KERNEL_SHAPES", "gpu", 1);
  const auto device = conformance::test_device("opencl");
  unsetenv("DLK_KERNEL_SHAPES");
  if (!device) return;
  const MatrixTile right{32, 64, 32, 1, 1, 4, 4}, wrong{32, 64, 32, 1, 2, 4, 4};
  MatrixUnits units(device, "plain");
  const auto plan = units.assumed();
  CHECK(plan->works(right));
  CHECK(plan->settle());
  CHECK(plan->works(wrong));
  CHECK_FALSE(plan->settle());
  CHECK_FALSE(plan->works(wrong));
  CHECK(plan->settle());
  CHECK_FALSE(units.works(wrong));
  // As another process sees it: no kernel is built.
  const auto library = KernelLibrary::of(device);
  const uint64_t built = library->stats().pipelines;
  MatrixUnits others(device, "plain");
  CHECK(others.works(right));
  CHECK_FALSE(others.works(wrong));
  CHECK(library->stats().pipelines == built);
}
