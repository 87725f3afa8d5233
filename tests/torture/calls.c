/*
 * Calls one function of libmodstamp, for faults that strace(1) injects into it: "calls FUNCTION [WITNESS]".
 *
 * Prints the function's value, and the text that it gave.
 */
#include <modstamp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char witness[1 << 20];

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    char *why = NULL, *text = NULL;
    int value;

    if (argc > 2) {
        FILE *file = fopen(argv[2], "r");

        if (file == NULL || fread(witness, 1, sizeof witness - 1, file) == 0)
            return 9;
        fclose(file);
    }
    getppid(); /* The calls from here to the next one are the library's. */
    if (strcmp(name, "observe") == 0)
        value = modstamp_observe("qemu", &text, &why);
    else if (strcmp(name, "check") == 0)
        value = modstamp_check("qemu", witness, &why);
    else if (strcmp(name, "disturbed") == 0)
        value = modstamp_disturbed("qemu", witness, &why);
    else if (strcmp(name, "touch") == 0)
        value = modstamp_touch("qemu", "a test", &why);
    else
        return 9;
    getppid();
    printf("%d\n%s%s\n", value, text != NULL ? text : "", why != NULL ? why : "");
    modstamp_free(text);
    modstamp_free(why);
    return 0;
}
