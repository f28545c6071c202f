// How many threads are worth starting.
#include <doctest/doctest.h>

#if defined(__linux__)
#include <sched.h>
#endif

#include "core/base/processors.h"

using namespace dlk;

TEST_CASE("there is a processor") { CHECK(usable_processors() >= 1); }

#if defined(__linux__)
TEST_CASE("the processors that are left count, not those of the machine") {
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  CHECK(usable_processors() == static_cast<unsigned>(CPU_COUNT(&all)));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; CPU_COUNT(&one) == 0; ++i) {
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(usable_processors() == 1);
  REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
}
#endif
