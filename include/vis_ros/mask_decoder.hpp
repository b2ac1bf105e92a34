// Masks of vis_ros/msg/InstanceTrack in C++17; header-only, needs neither ROS nor another library.
//
//   void on_instances(const vis_ros::msg::InstanceTrackArray & message)
//   {
//     for (const auto & track : message.tracks) {
//       std::vector<std::uint8_t> mask = vis_ros::decode(track, message.height, message.width);  // 0 or 255, row by row
//       vis_ros::for_each_span(track, message.height, message.width, [](const vis_ros::Span & span) {
//         // foreground pixels span.begin <= x < span.end of row span.row
//       });
//     }
//   }
//
// A track is anything with a `roi` (x_offset, y_offset, height, width) and `runs` (data(), size(); std::uint32_t): the
// generated message, or vis_ros::MaskView. Everything is checked before the first pixel is written or visited, so that a
// message from outside cannot make these functions read or write out of bounds.

#ifndef VIS_ROS__MASK_DECODER_HPP_
#define VIS_ROS__MASK_DECODER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace vis_ros
{

/// A mask contradicts itself or its image.
class MaskError : public std::invalid_argument
{
public:
  using std::invalid_argument::invalid_argument;
};

/// Foreground pixels `begin <= x < end` of one row of the image.
struct Span
{
  std::uint32_t row;
  std::uint32_t begin;
  std::uint32_t end;
};

/// A mask without ROS: the fields of the message that make it. Borrows the runs.
struct MaskView
{
  struct Box
  {
    std::uint32_t x_offset;
    std::uint32_t y_offset;
    std::uint32_t height;
    std::uint32_t width;
  } roi;

  struct Runs
  {
    const std::uint32_t * first;
    std::size_t count;
    const std::uint32_t * data() const {return first;}
    std::size_t size() const {return count;}
  } runs;
};

/// Pixels of an image that decode() allocates at most; a message may claim any size.
constexpr std::uint64_t max_decoded_pixels = std::uint64_t{1} << 28;

/// Throws MaskError if the roi leaves the image of height x width pixels, or the runs do not sum to the roi's area; no runs
/// at all are an empty mask, whatever the roi, as of a lost track that is expected there.
template<class Track>
void check(const Track & track, std::uint32_t height, std::uint32_t width)
{
  const std::uint64_t x = track.roi.x_offset, y = track.roi.y_offset;
  const std::uint64_t box_width = track.roi.width, box_height = track.roi.height;
  if (x + box_width > width || y + box_height > height) {
    throw MaskError(
            "mask: roi " + std::to_string(box_width) + "x" + std::to_string(box_height) + " at " +
            std::to_string(x) + ", " + std::to_string(y) + " leaves the image of " +
            std::to_string(width) + "x" + std::to_string(height) + " pixels");
  }
  if (track.runs.size() == 0) {
    return;
  }
  const std::uint64_t area = box_width * box_height;
  const std::uint32_t * const runs = track.runs.data();
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < track.runs.size() && sum <= area; ++i) {
    sum += runs[i];  // cannot overflow: at most area + one run
  }
  if (sum != area) {
    throw MaskError(
            "mask: runs sum to " + std::string(sum > area ? "more than " : "") +
            std::to_string(std::min(sum, area)) + ", the roi holds " + std::to_string(area) + " pixels");
  }
}

/// Calls visit(Span) for every stretch of foreground within one row, top to bottom, left to right.
///
/// Cost grows with the number of runs and rows, not with the number of pixels. Throws as check() does.
template<class Track, class Visit>
void for_each_span(const Track & track, std::uint32_t height, std::uint32_t width, Visit && visit)
{
  check(track, height, width);
  const std::uint32_t left = track.roi.x_offset, box_width = track.roi.width;
  const std::uint32_t * const runs = track.runs.data();
  std::uint32_t row = track.roi.y_offset, column = 0;  // column counts inside the roi and stays below its width
  bool foreground = false;
  for (std::size_t i = 0; i < track.runs.size(); ++i, foreground = !foreground) {
    std::uint32_t rest = runs[i];
    if (!foreground) {  // skipped without a loop over rows
      if (box_width != 0) {
        const std::uint64_t position = std::uint64_t{column} + rest;
        row += static_cast<std::uint32_t>(position / box_width);
        column = static_cast<std::uint32_t>(position % box_width);
      }
      continue;
    }
    while (rest != 0) {
      const std::uint32_t length = std::min(rest, box_width - column);
      visit(Span{row, left + column, left + column + length});
      rest -= length;
      column += length;
      if (column == box_width) {
        column = 0;
        ++row;
      }
    }
  }
}

/// Sets the foreground pixels of an image to a value, and leaves the others as they are.
///
/// pixels: the image of height x width pixels, row by row; stride: elements from one row to the next (cv::Mat: step1()).
/// Call it for several tracks to make one label image. Throws as check() does, and if the stride is below the width; the
/// image is then unchanged.
template<class Track, class Pixel>
void decode_into(
  const Track & track, std::uint32_t height, std::uint32_t width, Pixel * pixels, std::size_t stride, Pixel value)
{
  if (stride < width) {
    throw MaskError(
            "mask: a stride of " + std::to_string(stride) + " is below the width of " + std::to_string(width));
  }
  for_each_span(
    track, height, width, [&](const Span & span) {
      Pixel * const row = pixels + std::size_t{span.row} * stride;
      std::fill(row + span.begin, row + span.end, value);
    });
}

/// The mask as height x width bytes, row by row: 0, or value where the instance is.
///
/// Throws as check() does, and for an image of more than max_decoded_pixels.
template<class Track>
std::vector<std::uint8_t> decode(
  const Track & track, std::uint32_t height, std::uint32_t width, std::uint8_t value = 255)
{
  const std::uint64_t area = std::uint64_t{height} * width;
  if (area > max_decoded_pixels || area > std::numeric_limits<std::size_t>::max()) {
    throw MaskError(
            "mask: an image of " + std::to_string(width) + "x" + std::to_string(height) +
            " pixels is too large to decode; use for_each_span");
  }
  check(track, height, width);  // before memory is taken
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(area), 0);
  decode_into(track, height, width, pixels.data(), width, value);
  return pixels;
}

}  // namespace vis_ros

#endif  // VIS_ROS__MASK_DECODER_HPP_
