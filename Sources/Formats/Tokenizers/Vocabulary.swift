/// The tokens of a model by their numbers: what each stands for, and which one stands for something.
package struct Vocabulary: Sendable {
    /// No token.
    static let none = UInt32.max

    struct Entry: Sendable {
        var id: UInt32
        /// What it stands for: in a byte-level vocabulary the bytes, else its text.
        var content: [UInt8]
        /// Whether pieces of text are looked for under this content.
        var isFindable: Bool
    }

    /// Numbers below which all tokens are.
    let count: Int
    private let pool: [UInt8]
    private let starts: [Int]
    private let table: ByteStringTable
    private let ids: [UInt32]

    /// nil where two findable entries are alike, two have one number, or so many collide that somebody meant it.
    init?(_ entries: [Entry]) {
        let sorted = entries.sorted { $0.id < $1.id }
        count = sorted.last.map { Int($0.id) + 1 } ?? 0
        var pool: [UInt8] = []
        var starts: [Int] = []
        starts.reserveCapacity(count + 1)
        var table = ByteStringTable(capacity: entries.count)
        var ids: [UInt32] = []
        for entry in sorted {
            guard starts.count <= Int(entry.id) else { return nil }
            // Numbers without a token have no content.
            while starts.count <= Int(entry.id) { starts.append(pool.count) }
            pool += entry.content
            guard entry.isFindable else { continue }
            guard table.insert(entry.content).isNew, table.longestWalk < 4096 else { return nil }
            ids.append(entry.id)
        }
        starts.append(pool.count)
        self.pool = pool
        self.starts = starts
        self.table = table
        self.ids = ids
    }

    func content(_ id: UInt32) -> ArraySlice<UInt8> { pool[starts[Int(id)]..<starts[Int(id) + 1]] }
    func find(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt32? { table.find(bytes).map { ids[$0] } }
    package func find(_ bytes: [UInt8]) -> UInt32? { table.find(bytes).map { ids[$0] } }
}
