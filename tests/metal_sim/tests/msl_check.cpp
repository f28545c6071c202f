// Looks whether Metal's compiler would take the given MSL files, without running them:
// metal_msl_check [--language 3.1] FILE... prints what is refused and ends with 1 then.
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/metal_sim/msl/module.h"

int main(int argc, char** argv) {
  unsigned long language = 0x30001;
  int refused = 0, seen = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--language" && i + 1 < argc) {
      int major = 0, minor = 0;
      if (std::sscanf(argv[++i], "%d.%d", &major, &minor) != 2) {
        std::fprintf(stderr, "--language takes MAJOR.MINOR, not %s\n", argv[i]);
        return 2;
      }
      language = static_cast<unsigned long>(major << 16 | minor);
      continue;
    }
    std::ifstream file(argv[i], std::ios::binary);
    std::ostringstream text;
    if (!(text << file.rdbuf())) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 2;
    }
    ++seen;
    const std::string log = metal_sim::check_msl(text.str(), language);
    if (log.empty()) continue;
    ++refused;
    std::printf("%s: refused\n%s", argv[i], log.c_str());
  }
  std::printf("%d texts, %d refused\n", seen, refused);
  return refused ? 1 : 0;
}
