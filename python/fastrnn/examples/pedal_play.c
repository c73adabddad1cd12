/* Plays a WAV file (mono, 16 bits) through the network in pedal.c, block by block, as a sound card asks for it:

   pedal_play IN.wav OUT.wav [OUT.f32]

   The last file gets the network's floats, before they are rounded to 16 bits. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pedal.h"

enum { BLOCK = 64 };

static uint32_t number(const unsigned char *bytes, int count) {
  uint32_t found = 0;
  while (count--) found = found << 8 | bytes[count];
  return found;
}

static void fail(const char *what, const char *path) {
  fprintf(stderr, "pedal_play: %s: %s\n", what, path);
  exit(1);
}

static void save(const char *path, const void *head, size_t head_size, const void *data, size_t size) {
  FILE *const file = fopen(path, "wb");
  if (!file || fwrite(head, 1, head_size, file) != head_size || fwrite(data, 1, size, file) != size || fclose(file))
    fail("cannot write", path);
}

int main(int count, char **paths) {
  unsigned char head[44], *bytes;
  float *x, *y;
  size_t T, t;
  FILE *file;
  pedal_state state;
  clock_t before;

  if (count < 3) fail("wanted", "IN.wav OUT.wav [OUT.f32]");
  file = fopen(paths[1], "rb");
  if (!file || fread(head, 1, sizeof head, file) != sizeof head) fail("cannot read", paths[1]);
  if (memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVEfmt ", 8) || number(head + 20, 2) != 1 ||
      number(head + 22, 2) != 1 || number(head + 34, 2) != 16 || memcmp(head + 36, "data", 4))
    fail("not a plain WAV file, mono, of 16 bits", paths[1]);
  T = number(head + 40, 4) / 2;
  bytes = malloc(2 * T + 1);
  x = malloc(T * sizeof *x + 1);
  y = malloc(T * sizeof *y + 1);
  if (!bytes || !x || !y) fail("too long for the memory", paths[1]);
  if (fread(bytes, 2, T, file) != T) fail("shorter than it says", paths[1]);
  fclose(file);
  for (t = 0; t < T; ++t) x[t] = (float)(int16_t)number(bytes + 2 * t, 2) / 32768;

  before = clock();
  pedal_init(&state);
  for (t = 0; t < T; t += BLOCK) pedal_run(&state, x + t, T - t < BLOCK ? T - t : BLOCK, y + t);
  printf("%.6f seconds for %.6f seconds of sound\n", (double)(clock() - before) / CLOCKS_PER_SEC,
         (double)T / number(head + 24, 4));

  for (t = 0; t < T; ++t) {
    const float scaled = 32768 * y[t], bounded = scaled < -32768 ? -32768 : scaled > 32767 ? 32767 : scaled;
    const int sample = (int)(bounded < 0 ? bounded - 0.5f : bounded + 0.5f);
    bytes[2 * t] = (unsigned char)(sample & 255);
    bytes[2 * t + 1] = (unsigned char)(sample >> 8 & 255);
  }
  save(paths[2], head, sizeof head, bytes, 2 * T);
  if (count > 3) save(paths[3], head, 0, y, T * sizeof *y);
  free(bytes);
  free(x);
  free(y);
  return 0;
}
