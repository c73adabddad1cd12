"""The two files of an exported network, from its parts.

Letters: T time, I input, O output.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import fastrnn
from fastrnn.checks import Array
from fastrnn.embed.functions import constant, filled, functions
from fastrnn.embed.parts import Part

MARK = "/* Made by fastrnn "  # how both begin
TYPES = {"float32": "float", "float64": "double", "uint16": "uint16_t", "int8": "int8_t"}


class Source(NamedTuple):
    """A network to be written."""

    prefix: str  # of all names
    network: str  # what a comment calls it
    parts: Sequence[Part]
    dtype: str
    takes: int  # numbers, or of tokens those that there are

    @property
    def tokens(self) -> bool:
        """Whether a step takes a token."""
        return "token" in self.parts[0].takes

    @property
    def states(self) -> list[tuple[str, Array]]:
        """The members of the state, and what each begins with."""
        return [
            (f"{part.name}_{letter}", start) for part in self.parts for letter, start in part.states.items()
        ]

    @property
    def layout(self) -> str:
        """A number in C that tells what the header declares from what others do."""
        states = [(name, len(start)) for name, start in self.states]
        declared = (self.dtype, self.tokens, self.takes, self.parts[-1].width, states)
        return f"0x{zlib.crc32(repr(declared).encode()):08x}"

    def header(self) -> str:
        """The text of the header."""
        members = "\n".join(f"  REAL {name}[{len(start)}];" for name, start in self.states)
        what = f"one of {self.takes} tokens" if self.tokens else f"x [{self.takes}]"
        size = sum(start.nbytes for _, start in self.states)
        step, run = self._heads()
        text = f"""\
{MARK}{fastrnn.__version__} of
   {_commented(self.network)}
   Compile with -std=c99 or -ffp-contract=off, and without -ffast-math. */
#ifndef @@_H
#define @@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

enum {{ @@_INPUT_SIZE = {self.takes}, @@_OUTPUT_SIZE = {self.parts[-1].width} }};
#define @@_LAYOUT {self.layout}

/* What a sequence has come to, {size} bytes: one for each sequence. It may be copied. */
typedef struct @state {{
{members}
}} @state;

/* To the state of a beginning. */
void @init(@state *state);

/* One step on: {what} to y [{self.parts[-1].width}]{TOKENS if self.tokens else ", which may be x itself."} */
{step};

/* T steps on: {"tokens [T]" if self.tokens else f"x [T][{self.takes}]"} to y [T][{self.parts[-1].width}]. */
{run};

#ifdef __cplusplus
}}
#endif

#endif
"""
        return self._named(text)

    def source(self, header: str) -> str:
        """The text of the file that includes the header of this name."""
        needs = {need for part in self.parts for need in part.needs}
        widest = max(part.integers[0] for part in self.parts), max(part.integers[1] for part in self.parts)
        numbers = sum(array.nbytes for part in self.parts for _, array, _ in part.arrays)
        fma = "fmaf" if self.dtype == "float32" else "fma"
        fast = "FP_FAST_FMAF" if self.dtype == "float32" else "FP_FAST_FMA"
        arm = "" if self.dtype == "float32" else " && (__ARM_FP & 8)"
        head = f"""\
{MARK}{fastrnn.__version__} of
   {_commented(self.network)}
   with {numbers:,} bytes of weights. Compile with -std=c99 or -ffp-contract=off, and without -ffast-math. */
"""
        text = f"""
#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#if INT_MAX < 0x7fffffff
#error "an int must have 32 bits"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* of which the latter is about smaller numbers */
#error "numbers are computed with more digits than they have: on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

#if @@_LAYOUT != {self.layout}
#error "the header is of another network: export both files again"
#endif

#ifdef __clang__ /* of which newer ones make one rounding of two even with -std=c99 */
#pragma STDC FP_CONTRACT OFF
#endif

/* Whether products and sums are rounded once, together, as processors with FMA do: on others 1 is slow, and 0
   gives the bits that fastrnn has on such. */
#ifndef @@_FMA
#if defined(__FMA__) || defined({fast}) || (defined(__ARM_FEATURE_FMA){arm})
#define @@_FMA 1
#else
#define @@_FMA 0
#endif
#endif

#ifdef __cplusplus
#define @@_RESTRICT
#else
#define @@_RESTRICT restrict
#endif

#if @@_FMA
static inline REAL @fma(REAL a, REAL b, REAL c) {{ return {fma}(a, b, c); }}
#else
static inline REAL @fma(REAL a, REAL b, REAL c) {{ return a * b + c; }}
#endif

{functions(needs, self.dtype, widest)}
"""
        text += "".join(map(self._part, self.parts))
        text += "\n".join((self._init(), self._step(), self._run()))
        return f'{self._named(head)}#include "{header}"\n{self._named(text)}'

    def _part(self, part: Part) -> str:
        arrays = "".join(_array(*each) for each in part.arrays)
        arguments = [f"REAL *@RESTRICT {letter}" for letter in part.states]
        arguments = [*arguments, part.takes] if arguments else [part.takes, "REAL *@RESTRICT y"]
        head = f"static void @{part.name}({', '.join(arguments)})"
        return (
            f"/* {_commented(part.comment)} */\n{arrays}\n{_function(head, [*part.declared(), *part.body])}\n"
        )

    def _init(self) -> str:
        arrays, lines = "", []
        for name, start in self.states:
            if start.any():
                arrays += _array(name, start, "what it begins with")
                lines.append(f"memcpy(state->{name}, @{name}, sizeof state->{name});")
            else:
                lines.append(f"memset(state->{name}, 0, sizeof state->{name});")
        return arrays + _function("void @init(@state *state)", lines)

    def _step(self) -> str:
        x, last, declared, calls = ("token" if self.tokens else "x"), self.parts[-1], [], []
        for part in self.parts:
            states = [f"state->{part.name}_{letter}" for letter in part.states]
            if states:
                calls.append(f"@{part.name}({', '.join(states)}, {x});")
                x = states[0]
                continue
            y = "y" if part is last else part.name
            if part is not last:
                declared.append(f"REAL {y}[{part.width}];")
            calls.append(f"@{part.name}({x}, {y});")
            x = y
        if last.states:
            calls.append(f"memcpy(y, {x}, sizeof {x});")
        if self.tokens:
            calls = [f"if (token < 0 || token >= {self.takes}) return -1;", *calls, "return 0;"]
        return _function(self._heads()[0], declared + calls)

    def _run(self) -> str:
        given, following = ("tokens[t]", "") if self.tokens else ("x", f"x += {self.takes}, ")
        loop = "for (t = 0; t < T; ++t"
        lines = [f"{loop}, {following}y += {self.parts[-1].width}) @step(state, {given}, y);"]
        if self.tokens:
            check = f"if (tokens[t] < 0 || tokens[t] >= {self.takes}) return -1;"
            lines = [f"{loop})\n    {check}", *lines, "return 0;"]
        return _function(self._heads()[1], ["size_t t;", *lines])

    def _heads(self) -> tuple[str, str]:
        """Of the functions that take a step and several."""
        returned = "int" if self.tokens else "void"
        x, xs = ("int32_t token", "const int32_t *tokens") if self.tokens else ("const REAL *x",) * 2
        return (
            f"{returned} @step(@state *state, {x}, REAL *y)",
            f"{returned} @run(@state *state, {xs}, size_t T, REAL *y)",
        )

    def _named(self, text: str) -> str:
        text = filled(text, self.dtype)
        text = text.replace("@@", self.prefix.upper()).replace("@RESTRICT", f"{self.prefix.upper()}_RESTRICT")
        return text.replace("@", f"{self.prefix}_")


TOKENS = ". Returns 0 or, with nothing done, -1 if there is no such token."


def _function(head: str, body: Sequence[str]) -> str:
    lines = "".join(f"  {line}\n" for line in body)
    return f"{head} {{\n{lines}}}\n"


def _commented(text: str) -> str:
    """Names may hold anything: within a comment of C they must not end it."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return re.sub(r"\*/|/\*|\\|\?\?", "_", plain).replace("\n", "\n   ")


def _array(name: str, numbers: Array, comment: str) -> str:
    """The definition of an array, with lines of up to some hundred letters."""
    numbers = numbers.view(np.uint16) if numbers.dtype == np.float16 else numbers
    flat, dtype = numbers.ravel(), numbers.dtype.name
    words = (
        [constant(each, dtype) for each in flat] if dtype.startswith("float") else [*map(str, flat.tolist())]
    )
    lines = ",\n".join("  " + ", ".join(words[first : first + 8]) for first in range(0, len(words), 8))
    return f"/* {comment} */\nstatic const {TYPES[dtype]} @{name}[{len(words)}] = {{\n{lines}\n}};\n"
