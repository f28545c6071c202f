// Builds translated MSL with clang: once with address spaces as types (syntax only), once to an
// instrumented shared object. The standard library is precompiled; results are kept on disk.
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "tests/metal_sim/execute/kernel_calls.h"
#include "tests/metal_sim/msl/embedded.h"
#include "tests/metal_sim/msl/module.h"
#include "tests/metal_sim/msl/translate.h"
#include "tests/metal_sim/report.h"

extern char** environ;

namespace metal_sim {

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

const Words kFlags = {"-std=c++17",
                      "-w",
                      "-fno-exceptions",
                      "-fno-rtti",
                      "-ferror-limit=20",
                      "-fno-caret-diagnostics",
                      "-fno-color-diagnostics"};
const Words kBuildFlags = {"-O1",
                           "-fPIC",
                           "-ffp-contract=off",
                           "-fsanitize=thread",
                           "-mllvm",
                           "-tsan-instrument-func-entry-exit=0",
                           "-mllvm",
                           "-tsan-instrument-atomics=0",
                           "-mllvm",
                           "-tsan-instrument-memintrinsics=0",
                           "-mllvm",
                           "-tsan-instrument-read-before-write=1"};

std::string clang() {
  const char* chosen = std::getenv("METAL_SIM_CLANG");
  return chosen && *chosen ? chosen : kDefaultClang;
}

/// Two FNV-1a hashes side by side, as 32 hexadecimal digits.
std::string hash_of(const std::string& text) {
  uint64_t a = 14695981039346656037ull, b = 0x9e3779b97f4a7c15ull;
  for (const char c : text) {
    a = (a ^ static_cast<unsigned char>(c)) * 1099511628211ull;
    b = (b ^ static_cast<unsigned char>(c)) * 0x100000001b3ull + 0x632be59bd9b4e019ull;
  }
  char digits[33];
  std::snprintf(digits, sizeof digits, "%016lx%016lx", a, b);
  return digits;
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// Runs a program; true where it succeeded. What it prints goes to `log`.
bool run_program(const Words& words, const fs::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid = 0;
  const int failed =
      ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed) {
    write_file(log, words[0] + ": " + std::strerror(failed) + "\n");
    return false;
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

fs::path cache_folder() {
  if (const char* chosen = std::getenv("METAL_SIM_CACHE"); chosen && *chosen) return chosen;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) {
    return fs::path(cache) / "dlk" / "metal_sim";
  }
  const char* home = std::getenv("HOME");
  return (home && *home ? fs::path(home) / ".cache" : fs::temp_directory_path()) / "dlk" /
         "metal_sim";
}

/// The precompiled standard library and the glue, in a folder that bears their hash.
struct Toolbox {
  fs::path folder;
  Words build_flags;
  std::string key;
};

/// A name that no other process or thread uses.
std::string unique_suffix() {
  static std::atomic<int> count{0};
  return "." + std::to_string(::getpid()) + "." + std::to_string(count.fetch_add(1));
}

void build_toolbox(const Toolbox& tools) {
  const fs::path partial = tools.folder.string() + unique_suffix();
  fs::create_directories(partial);
  write_file(partial / "metal_stdlib.h", kMetalStdlib);
  write_file(partial / "glue.c", kGlue);
  const std::string header = (partial / "metal_stdlib.h").string();
  const fs::path log = partial / "log";
  const bool good =
      run_program(Words{clang()} + kFlags + tools.build_flags +
                      Words{"-x", "c++-header", header, "-o", (partial / "run.pch").string()},
                  log) &&
      run_program(Words{clang()} + kFlags +
                      Words{"-DMETAL_SIM_CHECK", "-x", "c++-header", header, "-o",
                            (partial / "check.pch").string()},
                  log) &&
      run_program({clang(), "-x", "c", "-O2", "-fPIC", "-c", (partial / "glue.c").string(), "-o",
                   (partial / "glue.o").string()},
                  log);
  if (!good) fatal("the simulator's Metal library does not compile: %s", file_text(log).c_str());
  // Precompiled headers remember where their source was: the folder must not move.
  std::error_code ignored;
  fs::create_directory_symlink(partial.filename(), tools.folder, ignored);
  if (ignored && !fs::exists(tools.folder / "glue.o")) {
    fatal("cannot write %s: %s", tools.folder.c_str(), ignored.message().c_str());
  }
}

const Toolbox& toolbox() {
  static std::once_flag once;
  static Toolbox* tools = new Toolbox;
  std::call_once(once, [] {
    tools->build_flags = kBuildFlags;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      tools->build_flags.push_back("-march=x86-64-v3");
    }
    std::string everything = std::string(kMetalStdlib) + kGlue + clang();
    for (const std::string& flag : kFlags + tools->build_flags) everything += flag + ' ';
    tools->key = hash_of(everything);
    tools->folder = cache_folder() / ("library-" + tools->key);
    if (!fs::exists(tools->folder / "glue.o")) {
      fs::create_directories(cache_folder());
      build_toolbox(*tools);
    }
  });
  return *tools;
}

/// The compiler's log with Metal's words for address spaces.
std::string in_metal_words(std::string log) {
  const std::pair<const char*, const char*> words[] = {
      {"__attribute__((address_space(1)))", "device"},
      {"__attribute__((address_space(2)))", "constant"},
      {"__attribute__((address_space(3)))", "threadgroup"}};
  for (const auto& [theirs, ours] : words) {
    for (size_t at = 0; (at = log.find(theirs, at)) != std::string::npos;) {
      log.replace(at, std::strlen(theirs), ours);
    }
  }
  return log;
}

/// The compiler's log where the address spaces or types of the translated file are wrong.
std::string check_types(const std::string& source, const fs::path& log) {
  const bool good =
      run_program(Words{clang()} + kFlags +
                      Words{"-DMETAL_SIM_CHECK", "-include-pch",
                            (toolbox().folder / "check.pch").string(), "-fsyntax-only", source},
                  log);
  return good ? std::string() : in_metal_words(file_text(log));
}

/// Compiles `code` to the shared object `target`; returns the compiler's log where it fails.
std::string build(const std::string& code, const fs::path& target) {
  const Toolbox& tools = toolbox();
  const fs::path stem = target.string() + unique_suffix();
  const std::string source = stem.string() + ".cpp", object = stem.string() + ".o",
                    library = stem.string() + ".so";
  const fs::path log = stem.string() + ".log";
  write_file(source, "using namespace metal;\n" + code);
  std::string failure = check_types(source, log);
  if (failure.empty() &&
      (!run_program(Words{clang()} + kFlags + tools.build_flags +
                        Words{"-include-pch", (tools.folder / "run.pch").string(), "-c", source,
                              "-o", object},
                    log) ||
       !run_program(
           {"ld", "-shared", object, (tools.folder / "glue.o").string(), "-o", library, "-lm"},
           log))) {
    failure = in_metal_words(file_text(log));
  }
  std::error_code ignored;
  if (failure.empty()) fs::rename(library, target, ignored);
  for (const std::string& path : {source, object, log.string()}) fs::remove(path, ignored);
  return failure;
}

/// The addresses that the loaded object covers.
void find_image(Module& module, const void* inside) {
  struct Search {
    Module* module;
    uintptr_t inside;
  } search{&module, reinterpret_cast<uintptr_t>(inside)};
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* wanted = static_cast<Search*>(data);
        uintptr_t begin = UINTPTR_MAX, end = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          begin = std::min<uintptr_t>(begin, info->dlpi_addr + header.p_vaddr);
          end = std::max<uintptr_t>(end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        if (wanted->inside < begin || wanted->inside >= end) return 0;
        wanted->module->begin = reinterpret_cast<const char*>(begin);
        wanted->module->end = reinterpret_cast<const char*>(end);
        return 1;
      },
      &search);
}

template <class T>
T symbol(void* handle, const std::string& name) {
  void* found = ::dlsym(handle, name.c_str());
  if (!found) fatal("a compiled kernel lacks the symbol %s", name.c_str());
  return reinterpret_cast<T>(found);
}

std::shared_ptr<Module> load(const fs::path& path, const Translation& translation) {
  auto module = std::make_shared<Module>();
  module->handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module->handle) return nullptr;
  KernelCalls* table = symbol<KernelCalls*>(module->handle, "metal_sim_table");
  *table = kernel_calls();
  find_image(*module, table);
  module->uses_matrix = translation.uses_matrix;
  for (const TranslatedKernel& translated : translation.kernels) {
    KernelEntry entry;
    entry.name = translated.name;
    entry.has_barriers = translated.has_barriers;
    entry.run =
        symbol<void (*)(void**, const ThreadPlace*)>(module->handle, "metal_sim_run_" + entry.name);
    entry.arguments =
        symbol<const KernelArgument*>(module->handle, "metal_sim_arguments_" + entry.name);
    const auto* sizes =
        symbol<const uint32_t* const*>(module->handle, "metal_sim_sizes_" + entry.name);
    entry.threadgroup_arrays.resize(static_cast<size_t>(sizes[1] - sizes[0]) / 2);
    for (const uint32_t* size = sizes[0]; size < sizes[1]; size += 2) {
      entry.threadgroup_arrays.at(size[0]) = size[1];
    }
    module->kernels.push_back(std::move(entry));
  }
  return module;
}

/// Runs clang's preprocessor over a text that has directives of its own.
std::string preprocess(const std::string& text, std::string& failure) {
  const fs::path stem = cache_folder() / ("preprocess" + unique_suffix());
  const std::string source = stem.string() + ".cpp", log = stem.string() + ".log";
  write_file(source, "#line 1 \"program_source\"\n" + text);
  const bool good = run_program(
      {clang(), "-E", "-P", "-std=c++17", "-D__METAL__=1", "-D__METAL_VERSION__=310", source}, log);
  std::string result = file_text(log);
  if (!good) failure = result;
  std::error_code ignored;
  fs::remove(source, ignored);
  fs::remove(log, ignored);
  return result;
}

}  // namespace

uint32_t KernelEntry::threadgroup_bytes() const {
  uint32_t sum = 0;
  for (const uint32_t bytes : threadgroup_arrays) sum += (bytes + 15) / 16 * 16;
  return sum;
}

Module::~Module() {
  if (handle) ::dlclose(handle);
}

namespace {

/// Preprocesses where needed and translates; what is wrong goes to `log`.
Translation prepare(const std::string& text, unsigned long language_version, std::string& log) {
  std::string source = without_metal_includes(text);
  if (needs_preprocessor(source)) {
    toolbox();  // Makes the folder.
    source = preprocess(source, log);
    if (!log.empty()) return {};
  }
  Translation translation = translate_msl(source, language_version);
  log = translation.errors;
  return translation;
}

}  // namespace

CompileResult compile_msl(const std::string& text, unsigned long language_version) {
  CompileResult result;
  const Translation translation = prepare(text, language_version, result.log);
  if (!result.log.empty()) return result;
  const std::string key = hash_of(toolbox().key + translation.code);
  const fs::path path = cache_folder() / (key + ".so");
  if (!fs::exists(path)) {
    result.log = build(translation.code, path);
    if (!result.log.empty()) return result;
  }
  result.module = load(path, translation);
  if (!result.module) fatal("cannot load the compiled kernel: %s", ::dlerror());
  result.module->key = key;
  return result;
}

std::string check_msl(const std::string& text, unsigned long language_version) {
  std::string log;
  const Translation translation = prepare(text, language_version, log);
  if (!log.empty()) return log;
  toolbox();  // Makes the folder.
  const fs::path stem = cache_folder() / ("check" + unique_suffix());
  const std::string source = stem.string() + ".cpp";
  write_file(source, "using namespace metal;\n" + translation.code);
  log = check_types(source, stem.string() + ".log");
  std::error_code ignored;
  for (const char* ending : {".cpp", ".log"}) fs::remove(stem.string() + ending, ignored);
  return log;
}

}  // namespace metal_sim
