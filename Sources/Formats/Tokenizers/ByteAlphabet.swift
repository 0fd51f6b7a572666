/// GPT-2's printable character for each byte: printable ones stand for themselves, the others take U+0100 and on. It lets a
/// byte-level vocabulary be written as texts.
public enum ByteAlphabet {
    /// The character of each byte.
    public static let characters: [Unicode.Scalar] = {
        var next: UInt32 = 256
        return (UInt32(0)..<256).map { byte in
            switch byte {
            case 33...126, 161...172, 174...255: return Unicode.Scalar(byte)!
            default:
                defer { next += 1 }
                return Unicode.Scalar(next)!
            }
        }
    }()

    private static let bytes: [UInt8?] = {
        var table = [UInt8?](repeating: nil, count: 256 + 68)
        for (byte, character) in characters.enumerated() { table[Int(character.value)] = UInt8(byte) }
        return table
    }()

    /// The bytes that a token's text stands for; nil if a character stands for none.
    public static func bytes(of text: String) -> [UInt8]? {
        var found: [UInt8] = []
        found.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            guard scalar.value < bytes.count, let byte = bytes[Int(scalar.value)] else { return nil }
            found.append(byte)
        }
        return found
    }

    /// How bytes are written.
    public static func text(of bytes: some Sequence<UInt8>) -> String {
        var text = String.UnicodeScalarView()
        for byte in bytes { text.append(characters[Int(byte)]) }
        return String(text)
    }
}
