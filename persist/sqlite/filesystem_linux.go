package sqlite

import (
	"fmt"
	"syscall"
)

// fileSystem names the file system of a folder, by its number of statfs(2).
func fileSystem(dir string) (name string, kind fsKind) {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return "", fsUnknown // the folder is made when the store is
	}
	switch uint32(st.Type) { // int64 on some machines, int32 on others
	case 0xEF53:
		return "ext4", fsLocal
	case 0x58465342:
		return "xfs", fsLocal
	case 0x9123683E:
		return "btrfs", fsLocal
	case 0x2FC12FC1:
		return "zfs", fsLocal
	case 0xF2F52010:
		return "f2fs", fsLocal
	case 0x794C7630:
		return "overlay", fsLocal
	case 0x01021994:
		return "tmpfs", fsMemory
	case 0x858458F6:
		return "ramfs", fsMemory
	case 0x6969:
		return "nfs", fsNetwork
	case 0x517B, 0xFE534D42, 0xFF534D42:
		return "smb", fsNetwork
	case 0x01021997:
		return "9p", fsNetwork
	case 0x00C36400:
		return "ceph", fsNetwork
	case 0x0BD00BD0:
		return "lustre", fsNetwork
	case 0x65735546:
		return "fuse", fsUnknown // sshfs as well as a local disk
	}
	return fmt.Sprintf("0x%X", uint32(st.Type)), fsUnknown
}
