/// Room for a peer's name, in bytes of UTF-8.
public let peerNameBytes = 40

/// Whether people may give a peer this name: 1 to ``peerNameBytes`` bytes that others see as they are, without blanks around them.
public func isPeerName(_ name: String) -> Bool {
    !name.isEmpty && name.first != " " && name.last != " " && cleaned(name, bytes: peerNameBytes) == name
}

/// Text of others as it may be shown and kept: no control characters, no marks that turn the direction of writing, no more bytes
/// than there is room for. Cut between scalars, never within one; an endless grapheme ends at the limit like anything else.
public func cleaned(_ text: String, bytes limit: Int) -> String {
    var out = String.UnicodeScalarView()
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
        default:
            out.append(scalar)
            used += width
        }
    }
    return String(out)
}
