/// Room for a peer's name, in bytes of UTF-8.
public let peerNameBytes = 40

/// Whether people may give a peer this name: 1 to ``peerNameBytes`` bytes that others see as they are, without blanks around them.
public func isPeerName(_ name: String) -> Bool {
    !name.isEmpty && name.first != " " && name.last != " " && cleaned(name, bytes: peerNameBytes) == name
}

/// Text of others as it may be shown and kept: no control characters, no marks that turn the direction of writing, no more bytes
/// than there is room for; nothing where nothing of it can be seen. Cut between scalars, never within one; an endless grapheme ends at the limit like
/// anything else.
public func cleaned(_ text: String, bytes limit: Int) -> String {
    var out = String.UnicodeScalarView()
    var isSeen = false
    var used = 0
    for scalar in text.unicodeScalars {
        let width = UTF8.width(scalar)
        guard used + width <= limit else { break }
        switch scalar.value {
        case 0x09, 0x0A, 0x0D:
            out.append(" ")
            used += 1
        case 0x00...0x1F, 0x7F...0x9F: continue
        // Marks and overrides of direction, invisible separators, byte-order mark (Unicode, UAX #9, §2).
        case 0x061C, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB, 0xE0000...0xE0FFF:
            continue
        // What fills a place and shows nothing, wherever it stands (Unicode, `Default_Ignorable_Code_Point`).
        case 0x00AD, 0x034F, 0x115F...0x1160, 0x17B4...0x17B5, 0x180B...0x180F, 0x3164, 0xFFA0, 0xFFF0...0xFFF8,
            0x1BCA0...0x1BCA3, 0x1D173...0x1D17A:
            continue
        default:
            out.append(scalar)
            used += width
            isSeen = isSeen || !isBlank(scalar)
        }
    }
    return isSeen ? String(out) : ""
}
/// Blanks of all widths (Unicode, `White_Space`, and the braille pattern without a dot), and what changes only the letter before it.
private func isBlank(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x20, 0xA0, 0x1680, 0x2000...0x200A, 0x202F, 0x205F, 0x2800, 0x3000, 0x0300...0x036F, 0xFE00...0xFE0F: true
    default: false
    }
}
