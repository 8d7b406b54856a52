"""Types of the native CPU module; csrc/bindings_cpu.cpp is the source."""

__version__: str
reserve_planes: int

def usable_isas() -> list[str]: ...
def select_isa(name: str = "") -> str: ...
def handover_ns() -> float: ...
def set_handover_ns(ns: float) -> None: ...

class Call:
    def __init__(
        self,
        *,
        isa: str,
        float64: bool,
        seq_len: int,
        batch_size: int,
        input_size: int,
        hidden_size: int,
        num_directions: int,
        num_gates: int,
        lengths: int,
        reset: int,
        state_mask: int,
        num_threads: int,
    ) -> None: ...
    @property
    def num_threads(self) -> int: ...
    @property
    def team_size(self) -> int: ...
    def forward_workspace(self) -> int: ...
    def backward_workspace(self, wants_grad_x: bool, wants_grad_weights: bool) -> int: ...
    def forward(
        self,
        *,
        x: int,
        w_ih: int,
        w_hh: int,
        bias: int,
        h_0: int,
        c_0: int,
        y: int,
        h_n: int,
        c_n: int,
        reserve: int,
        workspace: int,
    ) -> None: ...
    def backward(
        self,
        *,
        x: int,
        w_ih: int,
        w_hh: int,
        h_0: int,
        c_0: int,
        y: int,
        reserve: int,
        grad_y: int,
        grad_h_n: int,
        grad_c_n: int,
        grad_x: int,
        grad_w_ih: int,
        grad_w_hh: int,
        grad_bias: int,
        grad_h_0: int,
        grad_c_0: int,
        workspace: int,
    ) -> None: ...
