// Uploads through memory that the device fetches from by itself (pinned): a driver copies any other
// host memory piece by piece while the caller waits. Used by one queue, under its lock.
#pragma once

#include <span>
#include <vector>

#include "backends/opencl/buffer.h"

namespace dlk::opencl {

/// A ring of equal pieces, each free again when the copy out of it is done.
class StagingRing {
 public:
  explicit StagingRing(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  /// Enqueues copies of `source`, which is free again then; the event of the last one. Null where
  /// the driver gives no such memory, what is small goes faster without, or, unless `may_wait`,
  /// too little is free: nothing was enqueued then.
  Event write(cl_command_queue queue, const View& destination, std::span<const std::byte> source,
              bool may_wait);
  /// Gives the memory back; the work of `queue` is done.
  void close(cl_command_queue queue);

 private:
  struct Piece {
    cl_mem memory = nullptr;
    std::byte* data = nullptr;
    Event event;  // of the copy out of it; null at first
  };
  bool is_free(const Piece& piece) const;
  bool has_room(size_t pieces) const;
  /// Null where the driver has no more.
  Piece* next_piece(cl_command_queue queue);
  bool add_piece(cl_command_queue queue);

  const std::shared_ptr<Context> context_;
  std::vector<Piece> pieces_;
  size_t next_ = 0;  // used for longest
  bool refused_ = false;
};

}  // namespace dlk::opencl
