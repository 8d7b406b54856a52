"""The Triton kernels: one program runs one tile of sequences, in one direction, through all steps.

Everything inside is kept as ``[hidden unit, sequence]``, units first: then the recurrent product is
``W h``, and a tile of 8 sequences fills the narrow side of the tensor cores' instruction.
"""
