/*
 * A check from C. `check PROFILE WITNESS` reads numbers from standard input. For each
 * number it checks the witness in the file WITNESS that many times. Then it prints the
 * time that these checks took, in nanoseconds.
 */
#include <modstamp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

int main(int count, char **words)
{
	static char witness[1 << 20];
	char line[16];
	FILE *file;

	if (count != 3 || !(file = fopen(words[2], "r")))
		return 2;
	fread(witness, 1, sizeof witness - 1, file);
	while (fgets(line, sizeof line, stdin)) {
		long start = nanoseconds();

		for (int times = atoi(line); times; times--)
			if (modstamp_check(words[1], witness, NULL) != MODSTAMP_OK)
				return 1;
		printf("%ld\n", nanoseconds() - start);
		fflush(stdout);
	}
	return 0;
}
