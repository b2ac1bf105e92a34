// Decodes masks from standard input; the answers on standard output are compared by test_mask_decoder.py.
//
// In, little-endian uint32, for each mask: height, width, roi x, y, width, height, number of runs, runs.
// Out, for each mask: one byte, 0 = decoded, 1 = refused; then, if decoded, height * width bytes from decode(), as many
// from the spans, and height * (width + 3) of an image of 16 bit with padded rows.

#include "vis_ros/mask_decoder.hpp"

#include <cstdio>
#include <optional>
#include <vector>

#ifdef WITH_MESSAGES
#include "vis_ros/msg/instance_track_array.hpp"
#endif

namespace
{

constexpr std::uint8_t untouched = 7;

std::optional<std::uint32_t> read_number()
{
  std::uint32_t number = 0;
  if (std::fread(&number, sizeof number, 1, stdin) != 1) {
    return std::nullopt;
  }
  return number;
}

template<class Values>
void write_all(const Values & values)
{
  std::fwrite(values.data(), sizeof values[0], values.size(), stdout);
}

template<class Track>
void answer(const Track & track, std::uint32_t height, std::uint32_t width)
{
  std::vector<std::uint8_t> decoded, painted;
  std::vector<std::uint16_t> padded;
  try {
    decoded = vis_ros::decode(track, height, width, 1);
    painted.assign(decoded.size(), 0);
    vis_ros::for_each_span(
      track, height, width, [&](const vis_ros::Span & span) {
        for (std::uint32_t x = span.begin; x < span.end; ++x) {
          ++painted.at(std::size_t{span.row} * width + x);
        }
      });
    padded.assign(std::size_t{height} * (width + std::size_t{3}), untouched);
    vis_ros::decode_into(track, height, width, padded.data(), width + std::size_t{3}, std::uint16_t{1000});
  } catch (const vis_ros::MaskError & error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::putchar(1);
    return;
  }
  std::putchar(0);
  write_all(decoded);
  write_all(painted);
  write_all(padded);
}

}  // namespace

int main()
{
  std::uint32_t narrow[1] = {untouched};
  const std::uint32_t run[2] = {0, 1};
  try {
    vis_ros::decode_into(vis_ros::MaskView{{0, 0, 1, 1}, {run, 2}}, 1, 1, narrow, 0, 9U);
    return 2;  // a stride below the width was taken
  } catch (const vis_ros::MaskError &) {
    if (narrow[0] != untouched) {
      return 3;
    }
  }
  while (const auto height = read_number()) {
    const std::uint32_t width = *read_number(), x = *read_number(), y = *read_number();
    const std::uint32_t box_width = *read_number(), box_height = *read_number(), count = *read_number();
    std::vector<std::uint32_t> runs(count);
    if (count != 0 && std::fread(runs.data(), sizeof runs[0], count, stdin) != count) {
      return 4;
    }
#ifdef WITH_MESSAGES
    vis_ros::msg::InstanceTrackArray message;
    message.height = *height;
    message.width = width;
    message.tracks.resize(1);
    auto & track = message.tracks[0];
    track.roi.x_offset = x;
    track.roi.y_offset = y;
    track.roi.width = box_width;
    track.roi.height = box_height;
    track.runs = runs;
    answer(track, message.height, message.width);
#else
    answer(vis_ros::MaskView{{x, y, box_height, box_width}, {runs.data(), runs.size()}}, *height, width);
#endif
  }
  return 0;
}
