/*
 * The peer of a check: a bare loop that asks the kernel what a check must ask, and does nothing with the answers.
 *
 * peer DIRECTORY STAMP...: for each number on standard input, so many times stats the stamps, reads the directory and stats
 * all in it, and prints how long that took, in nanoseconds. With "-" for the directory it stats the stamps alone.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void stat_stamps(char **stamps)
{
	struct stat seen;

	for (; *stamps; stamps++)
		stat(*stamps, &seen);
}

static void look_below(const char *path)
{
	struct stat seen;
	struct dirent *entry;
	DIR *directory = opendir(path);

	if (!directory || fstat(dirfd(directory), &seen))
		exit(1);
	while ((entry = readdir(directory)))
		if (fstatat(dirfd(directory), entry->d_name, &seen, AT_SYMLINK_NOFOLLOW))
			exit(1);
	closedir(directory);
}

int main(int count, char **words)
{
	char line[16];

	if (count < 3)
		return 2;
	while (fgets(line, sizeof line, stdin)) {
		long start = nanoseconds();

		for (int times = atoi(line); times; times--) {
			stat_stamps(words + 2);
			if (words[1][0] != '-')
				look_below(words[1]);
		}
		printf("%ld\n", nanoseconds() - start);
		fflush(stdout);
	}
	return 0;
}
