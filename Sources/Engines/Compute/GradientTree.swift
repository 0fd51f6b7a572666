/// The binary tree over virtual pipelines that fixes the order in which their gradients are added.
///
/// Node 1 is the root, the children of n are 2n and 2n+1, leaf v is at `leaves` + v. Two sums are only ever added when
/// they are siblings; a sibling that is missing (lost, or beyond the last virtual pipeline) is skipped. So the result
/// is the same whoever held which share.
package struct GradientTree {
    package let virtualPipelines: Int
    /// A power of two.
    package let leaves: Int

    package init(virtualPipelines: Int) {
        self.virtualPipelines = virtualPipelines
        var leaves = 1
        while leaves < virtualPipelines { leaves *= 2 }
        self.leaves = leaves
    }

    package func leaf(_ virtualPipeline: Int) -> Int { leaves + virtualPipeline }

    /// A node that stands for at least one virtual pipeline of the job.
    package func contains(_ node: Int) -> Bool { node >= 1 && node < 2 * leaves && !isBeyond(node) }

    /// Whether all leaves under the node lie beyond the last virtual pipeline.
    private func isBeyond(_ node: Int) -> Bool {
        var first = node
        while first < leaves { first *= 2 }
        return first >= leaves + virtualPipelines
    }

    /// Adds a complete share to a stack of maximal subtrees, as a binary counter adds one: as long as the newest sum is
    /// a right sibling of the one below it, they become their parent; a sum whose sibling can never come moves up for
    /// nothing.
    package func push<Sum>(_ sum: Sum, at leaf: Int, onto stack: inout [(node: Int, sum: Sum)], add: (Sum, Sum) -> Sum)
    {
        var node = leaf
        var sum = sum
        while node > 1 {
            if node & 1 == 1, let below = stack.last, below.node == node - 1 {
                sum = add(below.sum, sum)
                stack.removeLast()
            } else if node & 1 == 1 || !isBeyond(node + 1) {
                break
            }
            node /= 2
        }
        stack.append((node, sum))
    }

    /// Folds disjoint subtrees to the root, the deepest first.
    package func fold<Sum>(_ parts: [(node: Int, sum: Sum)], add: (Sum, Sum) -> Sum) -> Sum? {
        var parts = parts.sorted { $0.node < $1.node }
        while let deepest = parts.popLast() {
            guard !parts.isEmpty else { return deepest.sum }
            var merged = (node: deepest.node / 2, sum: deepest.sum)
            if let sibling = parts.last, sibling.node == deepest.node ^ 1 {
                merged.sum = add(sibling.sum, deepest.sum)
                parts.removeLast()
            }
            let place = parts.firstIndex { $0.node > merged.node } ?? parts.count
            parts.insert(merged, at: place)
        }
        return nil
    }

    /// The first node that lies inside another of the nodes, or comes twice; nil where all are disjoint.
    package func overlap(_ nodes: [Int]) -> Int? {
        var seen: Set<Int> = []
        for node in nodes where !seen.insert(node).inserted { return node }
        for node in nodes {
            var above = node / 2
            while above >= 1 {
                if seen.contains(above) { return node }
                above /= 2
            }
        }
        return nil
    }
}
