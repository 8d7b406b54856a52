// How the threads of a team share one task: the hidden units are split into parts, all rows in
// each.
//
// Where a batch has few rows, or where the weights of all units do not fit into one core's cache,
// splitting the units keeps every core's weights close to it. The price is that all parts of a step
// must be done before the next one begins.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace fastrnn {

// What a team knows of its parts. A task is a sequence of phases; every part of a phase is done
// once, by the member that claims it first: usually by the same one, whose cache has its weights,
// but a member that is not running (another program has its core) holds nobody up.
class Team {
 public:
  explicit Team(int64_t parts) : parts_(parts) {}
  int64_t num_parts() const { return static_cast<int64_t>(parts_.size()); }

  bool claim(int64_t part, int64_t phase);
  void complete(int64_t part, int64_t phase);
  // Returns when all parts of `phase` are complete; what was written in it is then visible.
  void wait(int64_t phase) const;

 private:
  // Each on cache lines of its own: one member writes it in every phase.
  struct Part {
    alignas(128) std::atomic<int64_t> claimed{0};
    alignas(128) std::atomic<int64_t> complete{0};
  };
  std::vector<Part> parts_;
};

// One thread's view of its team. All members go through the same phases in the same order.
struct Member {
  Team& team;
  const int64_t first_part;
  const int64_t num_parts;
  int64_t phase = 0;

  Member(Team& team, int64_t index)
      : team(team), first_part(index % team.num_parts()), num_parts(team.num_parts()) {}

  // Calls `body(part)` for the parts that this member claims, its own first.
  template <class Body>
  void run_phase(const Body& body) {
    if (num_parts == 1) return body(0);
    for (int64_t i = 0; i < num_parts; ++i) {
      const int64_t part = first_part + i < num_parts ? first_part + i : first_part + i - num_parts;
      if (!team.claim(part, phase)) continue;
      body(part);
      team.complete(part, phase);
    }
    team.wait(phase);
    ++phase;
  }
};

}  // namespace fastrnn
