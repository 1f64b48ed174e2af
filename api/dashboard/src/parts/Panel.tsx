// A part of a view with a heading, and a menu that saves what it shows.
import { type ReactElement, type ReactNode, useId, useRef, useState } from "react";
import IconButton from "@mui/material/IconButton";
import Menu from "@mui/material/Menu";
import MenuItem from "@mui/material/MenuItem";
import { Icons } from "../app/icons";
import { t } from "../words";
import { type Table, saveCsv, savePicture } from "./save";

type Props = {
  title: string;
  note?: ReactNode;
  actions?: ReactNode;
  table?: () => Table;
  /** Whether what is drawn can be saved as a picture. */
  picture?: boolean;
  className?: string;
  children: ReactNode;
};

export const Panel = ({ title, note, actions, table, picture, className, children }: Props): ReactElement => {
  const heading = useId();
  const body = useRef<HTMLElement>(null);
  const [anchor, setAnchor] = useState<HTMLElement | null>(null);
  const file = title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return (
    <section className={`panel ${className ?? ""}`} aria-labelledby={heading} ref={body}>
      <header>
        <h2 id={heading}>{title}</h2>
        <div className="panel-actions">
          {actions}
          {(table || picture) && (
            <>
              <IconButton size="small" aria-label={t("common.more", { name: title })} aria-haspopup="menu" onClick={(event) => setAnchor(event.currentTarget)}>
                <Icons.dots />
              </IconButton>
              <Menu open={anchor !== null} anchorEl={anchor} onClose={() => setAnchor(null)}>
                {table && (
                  <MenuItem onClick={() => { setAnchor(null); saveCsv(file, table()); }}>{t("common.csv")}</MenuItem>
                )}
                {picture && (
                  <MenuItem onClick={() => { setAnchor(null); if (body.current) void savePicture(file, title, body.current); }}>{t("common.png")}</MenuItem>
                )}
              </Menu>
            </>
          )}
        </div>
      </header>
      {note !== undefined && <p className="note">{note}</p>}
      {children}
    </section>
  );
};
