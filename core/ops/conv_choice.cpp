#include "core/ops/conv_choice.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string_view>
#include <vector>

#include "core/base/cache_folder.h"
#include "core/base/error.h"
#include "core/base/log.h"

namespace dlk {

namespace {

constexpr std::array<std::string_view, 9> kAlgorithms = {
    "direct", "depthwise", "block", "gemm", "mma", "gemv", "winograd2", "winograd4", "fft"};

[[noreturn]] void refuse(const std::string& source, const std::string& text) {
  std::string known;
  for (const std::string_view name : kAlgorithms)
    known += (known.empty() ? "" : ", ") + std::string(name);
  throw_invalid(source + " is '" + text + "'; it names one of " + known +
                ", or gemv:ITEMS,COLUMNS,AHEAD (powers of 2), or "
                "mma:BM,BN,BK,STAGES,AHEAD,TM,TN[:SLICES, :insideN or :streamN]");
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

int64_t number(const std::string& text, const std::string& source, const std::string& whole) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 1 || value > 1024) refuse(source, whole);
  return value;
}

/// The records of one file, read again when it changes.
class Records {
 public:
  std::optional<std::string> find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    refresh();
    const auto found = lines_.find(key);
    return found == lines_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  void refresh() {
    const char* setting = std::getenv("DLK_TUNING");
    const std::string folder = cache_directory();
    const std::filesystem::path path = setting != nullptr ? setting
                                       : folder.empty()   ? ""
                                                          : folder + "/tuning.tsv";
    std::error_code error;
    const auto time = std::filesystem::last_write_time(path, error);
    const uintmax_t size = std::filesystem::file_size(path, error);
    if (is_read_ && path == path_ && time == time_ && size == size_) return;
    is_read_ = true;
    path_ = path;
    time_ = time;
    size_ = size;
    lines_.clear();
    const bool tuning = path == "/dev/null";  // dlk tune measures what the cost model chooses
    std::istringstream shipped{std::string(tuning ? "" : shipped_records())};
    std::ifstream file(path);
    for (std::istream* stream :
         {static_cast<std::istream*>(&shipped), static_cast<std::istream*>(&file)}) {
      for (std::string line; std::getline(*stream, line);) {
        const size_t tab = line.rfind('\t');
        if (tab != std::string::npos) lines_[line.substr(0, tab)] = line.substr(tab + 1);
      }
    }
  }

  std::mutex mutex_;
  bool is_read_ = false;
  std::filesystem::path path_;
  std::filesystem::file_time_type time_;
  uintmax_t size_ = 0;
  std::map<std::string, std::string> lines_;
};

}  // namespace

ConvChoice convolution_choice(const Caps& caps, const std::string& problem) {
  if (const char* keys = std::getenv("DLK_CONV_KEYS"); keys != nullptr && !problem.empty()) {
    std::ofstream(keys, std::ios::app) << problem << '\n';
  }
  const char* forced = std::getenv("DLK_CONV_ALGO");
  if (forced != nullptr && *forced != '\0') {
    ConvChoice choice = parse_convolution_choice(forced, "DLK_CONV_ALGO");
    choice.forced = true;
    return choice;
  }
  if (problem.empty()) return {};
  static Records records;
  const std::string key = caps.backend + " " + caps.name + "\t" + problem;
  const std::optional<std::string> record = records.find(key);
  if (!record) return {};
  try {
    return parse_convolution_choice(*record, "a record of dlk tune");
  } catch (const Error& error) {  // of another version, or damaged: the cost model decides
    log_once(error.what());
    return {};
  }
}

ConvChoice parse_convolution_choice(const std::string& text, const std::string& source) {
  const std::vector<std::string> parts = split(text, ':');
  ConvChoice choice;
  choice.algorithm = parts.empty() ? "" : parts[0];
  if (std::ranges::find(kAlgorithms, choice.algorithm) == kAlgorithms.end()) refuse(source, text);
  if (choice.algorithm == "gemv" && parts.size() > 1) {
    const std::vector<std::string> sizes = split(parts[1], ',');
    if (sizes.size() != 3 || parts.size() > 2) refuse(source, text);
    GemvShape shape;
    int64_t* const fields[] = {&shape.items, &shape.columns, &shape.ahead};
    for (size_t i = 0; i < sizes.size(); ++i) {
      *fields[i] = number(sizes[i], source, text);
      if (!std::has_single_bit(static_cast<uint64_t>(*fields[i]))) refuse(source, text);
    }
    choice.gemv = shape;
  } else if (parts.size() > 1) {
    const std::vector<std::string> sizes = split(parts[1], ',');
    if (choice.algorithm != "mma" || sizes.size() < 7 || sizes.size() > 8 || parts.size() > 3) {
      refuse(source, text);
    }
    MatrixTile tile;
    int64_t* const fields[] = {&tile.bm,    &tile.bn, &tile.bk, &tile.stages,
                               &tile.ahead, &tile.tm, &tile.tn, &tile.form};
    for (size_t i = 0; i < sizes.size(); ++i) *fields[i] = number(sizes[i], source, text);
    choice.tile = tile;
  }
  constexpr std::string_view kStream = "stream", kInside = "inside";
  if (parts.size() > 2 && parts[2].starts_with(kStream)) {
    choice.streams = number(parts[2].substr(kStream.size()), source, text);
  } else if (parts.size() > 2 && parts[2].starts_with(kInside)) {
    choice.inside = true;
    choice.slices = number(parts[2].substr(kInside.size()), source, text);
  } else if (parts.size() > 2) {
    choice.slices = number(parts[2], source, text);
  }
  return choice;
}

}  // namespace dlk
