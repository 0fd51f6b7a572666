// An ICU data package without an entry, in the place of the 34 MB that Swift's Foundation brings along: Atoll asks for no locale, and formats
// numbers and dates itself. ICU finds no data and says so; nothing else of Foundation needs it. Linked into the packaged program only
// (Package.swift, ATOLL_PACKAGED). The layout is that of ICU's common data: a header, and a table of contents of so many entries (udatamem.h,
// ucmndata.h). The name carries ICU's version: a Swift with another ICU does not notice this one, and the program is larger; it works all the same.
struct empty_package {
    unsigned short header_size;
    unsigned char magic1, magic2;
    struct {
        unsigned short size, reserved_word;
        unsigned char is_big_endian, charset_family, sizeof_uchar, reserved_byte;
        unsigned char data_format[4], format_version[4], data_version[4];
    } info;
    unsigned int entries;
};
__attribute__((aligned(16))) const struct empty_package icudt76_dat = {
    24, 0xda, 0x27, {20, 0, 0, 0, 2, 0, {'C', 'm', 'n', 'D'}, {1, 0, 0, 0}, {0, 0, 0, 0}}, 0};
