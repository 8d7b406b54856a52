// The native core's interface: one LSTM layer, one or two directions, on raw pointers.
//
// T = seq_len, B = batch_size, I = input_size, H = hidden_size, D = num_directions, G = num_gates;
// gate order i, f, g, o, or i, g, o where f = 1 - i. Every array is dense and row-major, belongs to
// the caller, outlives the call, and overlaps no other. Pointers marked "or null" may be absent.
// Nothing here allocates tensors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn {

struct LstmShape {
  int64_t seq_len;         // T >= 1
  int64_t batch_size;      // B >= 1
  int64_t input_size;      // I >= 1
  int64_t hidden_size;     // H >= 1
  int64_t num_directions;  // D, 1 or 2; direction 1 runs from each sequence's own end to its start
  int64_t num_gates;       // G, 4, or 3 with coupled gates
};

// What a step keeps for the backward pass: activated gates i, f, g, o and the cell state c.
constexpr int64_t kReservePlanes = 5;

template <class T>
struct LstmForward {
  LstmShape shape;
  const T* x;              // [T, B, I]
  const T* w_ih;           // [D, G*H, I]
  const T* w_hh;           // [D, G*H, H]
  const T* bias;           // [D, G*H] or null
  const T* h_0;            // [D, B, H] or null for zeros
  const T* c_0;            // [D, B, H] or null for zeros
  const int64_t* lengths;  // [B], 0 <= length <= T, or null when every sequence has length T
  const uint8_t* reset;    // [T, B] or null; where not 0, both directions are cut before that step
  const T* state_mask;     // [D, B, H] or null; h_{t-1} is multiplied by it where it enters w_hh
  T* y;                    // [T, B, D*H]; zero past a sequence's length
  T* h_n;                  // [D, B, H], state after the last valid step
  T* c_n;                  // [D, B, H]
  T* reserve;              // [T, B, D, 5, H] or null; entries past a sequence's length stay unset
};

template <class T>
struct LstmBackward {
  LstmShape shape;
  const T* x;  // inputs and results of the forward call, as above
  const T* w_ih;
  const T* w_hh;
  const T* h_0;
  const T* c_0;
  const int64_t* lengths;
  const uint8_t* reset;
  const T* state_mask;
  const T* y;
  const T* reserve;
  const T* grad_y;    // [T, B, D*H] or null for zeros; never read past a sequence's length
  const T* grad_h_n;  // [D, B, H] or null
  const T* grad_c_n;  // [D, B, H] or null
  T* grad_x;          // [D, T, B, I], one summand per direction, or null when not wanted
  T* grad_w_ih;       // [D, G*H, I]; the weight gradients are wanted all or none (null)
  T* grad_w_hh;       // [D, G*H, H] or null
  T* grad_bias;       // [D, G*H] or null
  T* grad_h_0;        // [D, B, H]
  T* grad_c_0;        // [D, B, H]
};

}  // namespace fastrnn
