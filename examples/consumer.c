/* Shows a C program that keeps an answer, checks it before each use, and says why it asks again.
 *
 *     cc consumer.c $(pkg-config --cflags --libs modstamp)
 *     ./a.out qemu 'qemu-system-x86_64 -device help'
 *
 * Each line of standard input is a request for the answer.
 */
#define _POSIX_C_SOURCE 200809L

#include <modstamp.h>
#include <stdio.h>
#include <stdlib.h>

static char answer[1 << 20]; /* a longer one is an error */
static char *kept_witness;   /* NULL if the answer must not be used again */

static void probe(const char *command)
{
    FILE *output = popen(command, "r");
    size_t length = output ? fread(answer, 1, sizeof answer - 1, output) : 0;

    answer[length] = '\0';
    if (!output || pclose(output) != 0)
        exit(EXIT_FAILURE);
}

static void ask(const char *profile, const char *command)
{
    char *witness = NULL, *why = NULL;

    /* developers.md: by hand */
    int status = modstamp_observe(profile, &witness, &why);

    probe(command);
    if (status == MODSTAMP_OK)
        status = modstamp_disturbed(profile, witness, &why);
    if (status == MODSTAMP_OK) {
        kept_witness = witness; /* keep it with the answer */
    } else {
        printf("used once: %s\n", why);
        modstamp_free(why);
        modstamp_free(witness);
    }
    /* developers.md: end */
}

int main(int argc, char **argv)
{
    char request[256], *profile = argv[1], *why;

    if (argc != 3)
        return EXIT_FAILURE;
    while (fgets(request, sizeof request, stdin)) {
        /* developers.md: check */
        if (kept_witness && modstamp_check(profile, kept_witness, &why) != MODSTAMP_OK) {
            printf("asking again: %s\n", why);
            modstamp_free(why);
            modstamp_free(kept_witness);
            kept_witness = NULL;
        }
        /* developers.md: end */
        if (!kept_witness)
            ask(profile, argv[2]);
        printf("%s\n", answer);
        fflush(stdout);
    }
    modstamp_free(kept_witness);
    return EXIT_SUCCESS;
}
