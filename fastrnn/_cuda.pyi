"""Types of the native CUDA module; csrc/bindings_cuda.cpp is the source."""

__version__: str
device_type: str
padded_sizes: tuple[int, ...]

def driver_fault() -> str: ...
def device_fault(device: int) -> str: ...

class Device:
    def __init__(
        self, *, major: int, minor: int, multiprocessors: int, shared_bytes: int
    ) -> None: ...

class Problem:
    def __init__(
        self,
        *,
        precision: str,
        seq_len: int,
        batch_size: int,
        input_size: int,
        hidden_size: int,
        num_directions: int,
        training: bool,
    ) -> None: ...

class Plan:
    @property
    def hidden(self) -> int: ...
    @property
    def tiles(self) -> int: ...
    @property
    def steps_per_slice(self) -> int: ...
    @property
    def slices(self) -> int: ...
    @property
    def fuses_input(self) -> bool: ...
    @property
    def forward_threads(self) -> int: ...
    @property
    def backward_threads(self) -> int: ...
    @property
    def forward_shared(self) -> int: ...
    @property
    def gates_shared(self) -> int: ...
    @property
    def backward_shared(self) -> int: ...
    @property
    def forward_weight_bytes(self) -> int: ...
    @property
    def backward_weight_bytes(self) -> int: ...

def reasons_against(problem: Problem, device: Device) -> list[str]: ...
def make_plan(problem: Problem, device: Device) -> Plan: ...
def pack_forward(
    plan: Plan, *, w_ih: int, w_hh: int, words: int, device: int, stream: int
) -> None: ...
def pack_backward(plan: Plan, *, w_hh: int, words: int, device: int, stream: int) -> None: ...
def forward(
    plan: Plan,
    *,
    x: int,
    bias: int,
    share: int,
    weights: int,
    h_0: int,
    c_0: int,
    order: int,
    lengths: int,
    y: int,
    h_n: int,
    c_n: int,
    cells: int,
    device: int,
    stream: int,
) -> None: ...
def gates(
    plan: Plan,
    *,
    x: int,
    bias: int,
    share: int,
    weights: int,
    h_0: int,
    order: int,
    lengths: int,
    y: int,
    gates: int,
    device: int,
    stream: int,
) -> None: ...
def backward(
    plan: Plan,
    *,
    weights: int,
    gates: int,
    cells: int,
    c_0: int,
    order: int,
    lengths: int,
    grad_y: int,
    grad_h_n: int,
    grad_c_n: int,
    grad_h_0: int,
    grad_c_0: int,
    grad_bias_tiles: int,
    device: int,
    stream: int,
) -> None: ...
