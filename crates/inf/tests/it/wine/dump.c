/* What setupapi reads of the INF files listed in the file argv[1], one record a line:
 *   FILE path | ERROR code line | SECTION name | L<TAB>key or <0><TAB>value<TAB>value...
 * Backslash, tab and line ends are escaped. Built with MinGW, run with Wine, by wine.rs. */
#include <windows.h>
#include <setupapi.h>
#include <stdio.h>
#include <string.h>

static void put(const WCHAR *text)
{
    static char out[32768];
    int len = WideCharToMultiByte(CP_UTF8, 0, text, -1, out, sizeof out, 0, 0);
    for (int i = 0; i + 1 < len; i++) {
        switch (out[i]) {
        case '\\': fputs("\\\\", stdout); break;
        case '\t': fputs("\\t", stdout); break;
        case '\n': fputs("\\n", stdout); break;
        case '\r': fputs("\\r", stdout); break;
        default: putchar(out[i]);
        }
    }
}

static void put_line(INFCONTEXT *context)
{
    static WCHAR value[8192];
    DWORD count = SetupGetFieldCount(context), needed;
    putchar('L');
    for (DWORD i = 0; i <= count; i++) {
        putchar('\t');
        if (SetupGetStringFieldW(context, i, value, 8192, &needed)) put(value);
        else printf("<%lx>", (unsigned long)GetLastError());
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static char path[4096];
    static WCHAR wide[4096], name[8192];
    FILE *list = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!list) return 1;
    while (fgets(path, sizeof path, list)) {
        path[strcspn(path, "\r\n")] = 0;
        printf("FILE %s\n", path);
        MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 4096);
        UINT line = 0, needed;
        HINF inf = SetupOpenInfFileW(wide, NULL, INF_STYLE_WIN4 | INF_STYLE_OLDNT, &line);
        if (inf == INVALID_HANDLE_VALUE) {
            printf("ERROR %08lx %u\n", (unsigned long)GetLastError(), line);
            continue;
        }
        for (UINT i = 0; SetupEnumInfSectionsW(inf, i, name, 8192, &needed); i++) {
            INFCONTEXT context;
            fputs("SECTION ", stdout);
            put(name);
            putchar('\n');
            if (SetupFindFirstLineW(inf, name, NULL, &context))
                do put_line(&context); while (SetupFindNextLine(&context, &context));
        }
        SetupCloseInfFile(inf);
    }
    return 0;
}
