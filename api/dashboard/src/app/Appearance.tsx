// Light, dark, or as the system; and the way to forget the key of this tab.
import Menu from "@mui/material/Menu";
import MenuItem from "@mui/material/MenuItem";
import { useColorScheme } from "@mui/material/styles";
import type { ReactElement } from "react";
import { setToken, token } from "../api/token";
import { t } from "../words";

export const Appearance = ({ anchor, onClose }: { anchor: HTMLElement | null; onClose: () => void }): ReactElement => {
  const { mode, setMode } = useColorScheme();
  const choose = (wanted: "light" | "dark" | "system") => () => {
    setMode(wanted);
    onClose();
  };
  return (
    <Menu open={anchor !== null} anchorEl={anchor} onClose={onClose}>
      {(["light", "dark", "system"] as const).map((wanted) => (
        <MenuItem key={wanted} selected={mode === wanted} onClick={choose(wanted)}>{t(`theme.${wanted}`)}</MenuItem>
      ))}
      {token() !== null && <MenuItem onClick={() => { setToken(null); window.location.reload(); }}>{t("login.forget")}</MenuItem>}
    </Menu>
  );
};
